"""The store implementations that the contract suite runs over; another joins by a parameter here."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bg_ingest.adapters.sqlite import open_table
from bg_ingest.ports.table import Table
from bg_ingest.store import Store
from tests.fakes.clock import SetClock


@pytest.fixture
def anyio_backend() -> str:
    """An ordinary loop: files are written in threads."""
    return "asyncio"


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture(params=["sqlite-memory", "sqlite-file", pytest.param("dynamodb", marks=pytest.mark.integration)])
async def table(request: pytest.FixtureRequest, tmp_path: Path, clock: SetClock) -> AsyncIterator[Table]:
    if request.param == "dynamodb":
        async with request.getfixturevalue("dynamodb").new_table() as opened:
            yield opened
        return
    path = tmp_path / "bg-ingest.sqlite" if request.param == "sqlite-file" else None
    async with open_table(path, clock) as opened:
        yield opened


@pytest.fixture
def store(table: Table, clock: SetClock) -> Store:
    return Store(table, clock)
