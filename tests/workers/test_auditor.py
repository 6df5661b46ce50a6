"""The audit is written while the actors run, and once more as they come to rest."""

from datetime import timedelta

import anyio

from bg_ingest.domain.connections import Defaults
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.windows import Window
from tests.house import House, house

ADA = UserId("ada")
STATUS = "GET /api/users/{user_id}/connections"


async def on_record(opened: House) -> list[str]:
    """Return the routes by which Ada was asked for or changed, as another process finds them."""
    now = opened.clock.now()
    services, _ = opened.twin()
    window = Window(now - timedelta(days=1), now + timedelta(days=1))
    return [each.route async for batch in services.auditing.of(ADA, window) for each in batch]


async def test_what_was_asked_is_on_record_within_seconds() -> None:
    async with house(defaults=Defaults(backfill_days=0)) as opened, opened.running():
        await opened.connect(ADA)
        await opened.api.get(f"/api/users/{ADA}/connections")
        await anyio.sleep(3)
        assert STATUS in await on_record(opened)


async def test_what_was_asked_right_before_a_drain_is_on_record_after_it() -> None:
    async with house(defaults=Defaults(backfill_days=0)) as opened:
        async with opened.running():
            await opened.connect(ADA)
            await anyio.sleep(3)
            await opened.api.get(f"/api/users/{ADA}/connections")
            assert STATUS not in await on_record(opened)
        assert STATUS in await on_record(opened)
