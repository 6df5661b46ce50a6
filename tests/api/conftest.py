"""An API to ask."""

from collections.abc import AsyncIterator

import pytest

from tests.api.desk import Desk, open_desk
from tests.conftest import on


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with open_desk() as opened:
        yield opened


anyio_backend = on("asyncio")
"""As the server; actors, and services whose tasks race, are tested on both."""
