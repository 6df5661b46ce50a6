"""When keys were last used is written beside the requests."""

from datetime import timedelta

import anyio

from bg_ingest.domain.credentials import Scope
from tests.house import house


async def test_a_use_is_written_within_two_minutes() -> None:
    async with house() as home, home.running():
        made = await home.services.keyring.make("dashboard", {Scope.READINGS_READ})
        await anyio.sleep(30)
        home.api.headers["Authorization"] = f"Bearer {made.text.reveal()}"
        assert (await home.api.get("/api/bg/ada/latest")).status_code == 404
        used = home.clock.now()
        await anyio.sleep(120)
        (kept,) = await home.services.keyring.all()
        assert kept.used_at is not None
        assert abs(kept.used_at - used) < timedelta(seconds=1)
