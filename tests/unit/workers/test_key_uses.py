"""When keys were last used is written beside the requests."""

from datetime import timedelta

import anyio

from bg_ingest.domain.access import Scope
from tests.harness.service import open_service


async def test_a_use_is_written_within_two_minutes() -> None:
    async with open_service() as service, service.running():
        made = await service.services.api_keys.create("dashboard", {Scope.READINGS_READ})
        await anyio.sleep(30)
        service.api.headers["Authorization"] = f"Bearer {made.text.reveal()}"
        assert (await service.api.get("/api/bg/ada/latest")).status_code == 404
        used = service.clock.now()
        await anyio.sleep(120)
        (kept,) = await service.services.api_keys.list()
        assert kept.used_at is not None
        assert abs(kept.used_at - used) < timedelta(seconds=1)
