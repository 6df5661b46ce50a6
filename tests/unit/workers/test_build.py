"""Workers answer for the process before its actors run, and while they do."""

import anyio

from bg_ingest.domain.connections import PollDefaults
from bg_ingest.domain.ids import SHARDS, ConnectionId, UserId
from bg_ingest.domain.polling import NextPollReason
from tests.conftest import on
from tests.harness.service import PROVIDER, open_service
from workers.build import Workers

anyio_backend = on("asyncio", "trio")

ADA = ConnectionId(UserId("ada"), PROVIDER)


async def test_before_the_start_a_wakeup_has_no_effect_and_counts_are_zero() -> None:
    workers = Workers()
    workers.wake_poller(ADA)
    workers.wake_relay([])
    assert (workers.shard_count(), workers.connection_count(), workers.backfill_count()) == (0, 0, 0)
    assert (workers.restarts(), workers.newest_visible_at()) == ({}, {})
    assert (workers.unready_reasons(), workers.degraded_parts()) == (["starting"], [])
    assert (workers.status(), workers.broker_state()) == (None, None)
    assert workers.next_poll(ADA) is None


async def test_while_the_actors_run_their_state_is_shown() -> None:
    async with open_service(defaults=PollDefaults(backfill_days=1)) as service, service.running():
        workers = service.workers
        assert workers.unready_reasons() == []
        await service.connect("ada")
        await anyio.sleep(30)
        assert (workers.shard_count(), workers.connection_count(), workers.backfill_count()) == (SHARDS, 1, 0)
        assert set(workers.restarts()) >= {"scheduler", "shards", "inbox", "ownership"}
        assert set(workers.restarts().values()) == {0}
        (visible_at,) = workers.newest_visible_at()[PROVIDER]
        assert visible_at <= service.clock.now()
        upcoming = workers.next_poll(ADA)
        assert upcoming is not None
        assert upcoming.at is not None
        assert upcoming.at > service.clock.now()
        assert upcoming.reason is not NextPollReason.REQUESTED
        assert workers.next_poll(ConnectionId(UserId("nobody"), PROVIDER)) is None
        status = workers.status()
        assert status is not None
        assert status.shards.owned == SHARDS


async def test_f35_the_shards_of_this_owner_are_those_served_here_from_the_first_instant() -> None:
    async with open_service() as service, service.running():
        for seconds in (0, 1, 30, 600):
            await anyio.sleep(seconds)
            status = service.workers.status()
            assert status is not None
            assert {owner.id: owner.shards for owner in status.owners} == {status.owner: status.shards.owned}
            assert status.shards.owned == SHARDS or seconds == 0
