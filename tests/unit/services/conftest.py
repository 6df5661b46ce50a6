from collections.abc import AsyncIterator

import pytest

from tests.conftest import on
from tests.harness.connected_user import ConnectedUser, open_connected_user
from tests.harness.shared_apps import forbid_simulator_http

anyio_backend = on("asyncio")
"""asyncio, as in the server; modules with racing tasks select both backends."""


@pytest.fixture(autouse=True)
def _no_simulator_http(monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_simulator_http(monkeypatch)


@pytest.fixture
async def ada() -> AsyncIterator[ConnectedUser]:
    async with open_connected_user() as ada:
        yield ada
