"""Fixture of the API over a store in memory."""

from collections.abc import AsyncIterator

import pytest

from tests.conftest import on
from tests.harness.api import ApiHarness, open_api


@pytest.fixture
async def api() -> AsyncIterator[ApiHarness]:
    async with open_api() as opened:
        yield opened


anyio_backend = on("asyncio")
"""asyncio, as in the server; actors, and services with racing tasks, are tested on both backends."""
