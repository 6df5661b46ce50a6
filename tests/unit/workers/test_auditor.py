"""The audit is written while the actors run, and once more as they come to rest."""

from datetime import timedelta

import anyio

from bg_ingest.domain.connections import PollDefaults
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.windows import Window
from tests.harness.service import ServiceHarness, open_service

ADA = UserId("ada")
STATUS = "GET /api/users/{user_id}/connections"


async def audit_actions(service: ServiceHarness) -> list[str]:
    """Return the routes by which Ada was asked for or changed, as another process finds them."""
    now = service.clock.now()
    services, _ = service.new_process()
    window = Window(now - timedelta(days=1), now + timedelta(days=1))
    return [each.route async for batch in services.audit_log.records(ADA, window) for each in batch]


async def test_what_was_asked_is_on_record_within_seconds() -> None:
    async with open_service(defaults=PollDefaults(backfill_days=0)) as service, service.running():
        await service.connect(ADA)
        await service.api.get(f"/api/users/{ADA}/connections")
        await anyio.sleep(3)
        assert STATUS in await audit_actions(service)


async def test_what_was_asked_right_before_a_drain_is_on_record_after_it() -> None:
    async with open_service(defaults=PollDefaults(backfill_days=0)) as service:
        async with service.running():
            await service.connect(ADA)
            await anyio.sleep(3)
            await service.api.get(f"/api/users/{ADA}/connections")
            assert STATUS not in await audit_actions(service)
        assert STATUS in await audit_actions(service)
