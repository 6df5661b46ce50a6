"""An API to ask."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.api.desk import Desk, open_desk
from tests.conftest import VirtualTimeLoop


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with open_desk() as opened:
        yield opened


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """One backend: the server has asyncio, and what the routes call is tested on both."""
    return "asyncio", {"loop_factory": VirtualTimeLoop}
