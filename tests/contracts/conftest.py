"""The store implementations that the contract suite runs over; another joins by a parameter here."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bg_ingest.adapters.sqlite import open_table
from bg_ingest.ports.table import Table
from bg_ingest.store import Store, check_layout
from tests.fakes.clock import SetClock
from tests.integration.servers import DynamoServer


@pytest.fixture
def anyio_backend() -> str:
    """An ordinary loop: files are written in threads."""
    return "asyncio"


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


STORES = ["sqlite-memory", "sqlite-file", pytest.param("dynamodb", marks=pytest.mark.integration)]


@pytest.fixture(params=STORES)
async def table(request: pytest.FixtureRequest, tmp_path: Path, clock: SetClock) -> AsyncIterator[Table]:
    async with open_contract_table(request, tmp_path, clock) as opened:
        yield opened


@asynccontextmanager
async def open_contract_table(request: pytest.FixtureRequest, tmp_path: Path, clock: SetClock) -> AsyncIterator[Table]:
    """Open an empty table in the store that the parameter of the request names."""
    if request.param.startswith("dynamodb"):
        server: DynamoServer = request.getfixturevalue(request.param)
        async with server.new_table() as opened:
            yield opened
        return
    async with open_table(tmp_path / "bg-ingest.sqlite" if request.param == "sqlite-file" else None, clock) as opened:
        await check_layout(opened)
        yield opened


@pytest.fixture
def store(table: Table, clock: SetClock) -> Store:
    return Store(table, clock)
