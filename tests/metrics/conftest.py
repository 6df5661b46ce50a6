from collections.abc import AsyncIterator

import pytest

from bg_ingest.domain.connections import Defaults
from tests.conftest import on
from tests.house import House, house

anyio_backend = on("asyncio")
"""As the server."""


@pytest.fixture
async def opened() -> AsyncIterator[House]:
    async with house(defaults=Defaults(backfill_days=1)) as opened:
        yield opened
