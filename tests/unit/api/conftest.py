"""An API to ask."""

from collections.abc import AsyncIterator

import pytest

from tests.conftest import on
from tests.harness.api import ApiHarness, open_api


@pytest.fixture
async def api() -> AsyncIterator[ApiHarness]:
    async with open_api() as opened:
        yield opened


anyio_backend = on("asyncio")
"""As the server; actors, and services whose tasks race, are tested on both."""
