from collections.abc import AsyncIterator

import pytest

from tests.home import Home, connected


@pytest.fixture
async def home() -> AsyncIterator[Home]:
    async with connected() as home:
        yield home
