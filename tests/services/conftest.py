from collections.abc import AsyncIterator

import pytest

from tests.conftest import on
from tests.home import Home, connected

anyio_backend = on("asyncio")
"""As the server; modules whose tasks race ask for both."""


@pytest.fixture
async def home() -> AsyncIterator[Home]:
    async with connected() as home:
        yield home
