from collections.abc import AsyncIterator

import pytest

from tests.conftest import on
from tests.harness.connected_user import ConnectedUser, open_connected_user

anyio_backend = on("asyncio")
"""As the server; modules whose tasks race ask for both."""


@pytest.fixture
async def ada() -> AsyncIterator[ConnectedUser]:
    async with open_connected_user() as ada:
        yield ada
