from collections.abc import AsyncIterator

import pytest

from bg_ingest.domain.connections import PollDefaults
from tests.conftest import on
from tests.harness.service import ServiceHarness, open_service

anyio_backend = on("asyncio")
"""asyncio, as in the server."""


@pytest.fixture
async def service() -> AsyncIterator[ServiceHarness]:
    async with open_service(defaults=PollDefaults(backfill_days=1)) as service:
        yield service
