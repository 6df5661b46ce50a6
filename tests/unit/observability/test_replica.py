"""Unpublished changes as the relay and commits report them, and the state of the actors at a scrape."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio
import pytest
from anyio.abc import TaskStatus

from bg_ingest.adapters.sqlite import open_table
from bg_ingest.domain.changes import Change
from bg_ingest.domain.ids import SHARDS, UserId, shard_of
from bg_ingest.domain.replica_status import BrokerState
from bg_ingest.errors import BrokerUnavailable, EventRefused
from bg_ingest.observability.observer import Metrics
from bg_ingest.observability.registry import MetricsRegistry
from bg_ingest.services.publishing.relay import CommittedChange, Relay
from bg_ingest.simulator.faults import Failed, Late
from bg_ingest.store import Store
from tests.fakes.clock import NOON, SetClock
from tests.harness.sample_values import listed_commit
from tests.harness.scrape import scrape
from tests.harness.service import ServiceHarness

ADA, BEN = UserId("ada"), UserId("ben")


class Broker:
    """Publisher that refuses the events of some users, or is unreachable."""

    def __init__(self) -> None:
        self.refuses: Collection[UserId] = ()
        self.away = False

    async def publish(self, change: Change) -> bool:
        if self.away:
            raise BrokerUnavailable
        if change.user in self.refuses:
            raise EventRefused
        return True


class OutboxHarness:
    def __init__(self, store: Store) -> None:
        self.clock = SetClock(NOON)
        self.broker = Broker()
        self.store = store
        self.registry = MetricsRegistry()
        self.metrics = Metrics(self.registry, self.clock)
        self.relay = Relay(store.outbox, self.broker, self.metrics)

    async def commit(self, user: UserId, *, seen: bool = True) -> Change:
        commit = await listed_commit(self.store, user, self.clock.now())
        await self.store.commits.write(commit)
        if seen:
            self.metrics.committed(commit.changes)
        return commit.changes[0]

    async def publish(self, user: UserId, *changes: Change) -> None:
        committed = [CommittedChange(change, anyio.current_time()) for change in changes]
        await self.relay.publish_shard(shard_of(user), {user: committed})

    async def erase(self, user: UserId) -> None:
        head = await self.store.readings.head(user)
        self.store.outbox.published.confirm(user, head.last_change if head else 0)

    def advance(self, seconds: int) -> None:
        self.clock.advance(timedelta(seconds=seconds))

    @property
    def depth_and_age(self) -> tuple[float, float]:
        """Return the number of unpublished changes, and the age of the oldest in seconds."""
        value = self.registry.registry.get_sample_value
        return value("bg_ingest_outbox_waiting") or 0, value("bg_ingest_outbox_oldest_seconds") or 0


@pytest.fixture
async def outbox_harness() -> AsyncIterator[OutboxHarness]:
    async with open_outbox() as outbox_harness:
        yield outbox_harness


@asynccontextmanager
async def open_outbox() -> AsyncIterator[OutboxHarness]:
    async with open_table(None, SetClock(NOON)) as table:
        store = Store(table, SetClock(NOON))
        yield OutboxHarness(store)


async def test_published_changes_wait_no_more(outbox_harness: OutboxHarness) -> None:
    await outbox_harness.publish(ADA)
    change = await outbox_harness.commit(ADA)
    outbox_harness.advance(2)
    assert outbox_harness.depth_and_age == (1, 2)
    await outbox_harness.publish(ADA, change)
    assert outbox_harness.depth_and_age == (0, 0)


async def test_what_another_process_left_is_found_with_its_age(outbox_harness: OutboxHarness) -> None:
    for _ in range(3):
        await outbox_harness.commit(ADA, seen=False)
        outbox_harness.advance(60)
    outbox_harness.broker.away = True
    with pytest.raises(BrokerUnavailable):
        await outbox_harness.publish(ADA)
    assert outbox_harness.depth_and_age == (3, 180)
    outbox_harness.broker.away = False
    await outbox_harness.publish(ADA)
    assert outbox_harness.depth_and_age == (0, 0)


async def test_a_report_of_an_empty_shard_clears_it(outbox_harness: OutboxHarness) -> None:
    outbox_harness.broker.refuses = {ADA, BEN}
    await outbox_harness.publish(ADA, await outbox_harness.commit(ADA, seen=False))
    await outbox_harness.publish(BEN, await outbox_harness.commit(BEN, seen=False))
    outbox_harness.advance(200)
    await outbox_harness.erase(ADA)  # by another process
    outbox_harness.relay.report_empty(shard_of(ADA))
    assert outbox_harness.depth_and_age == (1, 200)
    await outbox_harness.commit(ADA)
    assert outbox_harness.depth_and_age == (2, 200)


async def test_a_broker_away_does_not_hide_what_comes_meanwhile(outbox_harness: OutboxHarness) -> None:
    await outbox_harness.publish(ADA)
    await outbox_harness.publish(BEN)
    outbox_harness.broker.away = True
    for _ in range(5):
        await outbox_harness.commit(ADA)
        await outbox_harness.commit(BEN)
        outbox_harness.advance(10)
        with pytest.raises(BrokerUnavailable):
            await outbox_harness.publish(ADA)
    assert outbox_harness.depth_and_age == (10, 50)


async def test_a_refused_event_ages_while_others_are_published(outbox_harness: OutboxHarness) -> None:
    refused = await outbox_harness.commit(ADA)
    outbox_harness.broker.refuses = {ADA}
    await outbox_harness.publish(ADA, refused)
    outbox_harness.advance(100)
    await outbox_harness.commit(ADA)
    await outbox_harness.publish(ADA)
    assert outbox_harness.depth_and_age == (2, 100)
    await outbox_harness.commit(BEN)
    await outbox_harness.publish(BEN)
    assert outbox_harness.depth_and_age == (2, 100)


async def test_an_outbox_that_another_process_relays_by_now_is_forgotten(outbox_harness: OutboxHarness) -> None:
    outbox_harness.broker.refuses = {ADA}
    await outbox_harness.commit(ADA)
    await outbox_harness.publish(ADA)
    assert outbox_harness.depth_and_age[0] == 1
    outbox_harness.advance(400)
    assert outbox_harness.depth_and_age == (0, 0)


HOUR = timedelta(hours=1)


@pytest.mark.slow
async def test_a_connection_grows_stale_without_anything_happening(service: ServiceHarness) -> None:
    async with service.running():
        await service.connect("ada")
        await anyio.sleep(60)
        at = service.clock.now()
        service.simulator.add_fault(Late(start=at, end=at + 9 * HOUR, shown_at=at + 9 * HOUR))
        fresh = await scrape(service)
        assert fresh("freshness_seconds_bucket", le="600.0", provider="dexcom") == 1
        service.clock.skip(3 * HOUR)
        stale = await scrape(service)
    assert stale("freshness_seconds_bucket", le="7200.0") == 0
    assert stale("freshness_seconds_bucket", le="21600.0") == 1
    assert stale("freshness_seconds_gcount") == 1


@pytest.mark.slow
async def test_backfills_are_reported_until_they_are_done(service: ServiceHarness) -> None:
    service.simulator.add_fault(Failed(endpoint="egvs", count=5))
    async with service.running():
        await service.connect("ada")
        await anyio.sleep(1)
        assert (await scrape(service))("backfills") == 1, "also while it fails"
        await anyio.sleep(3600)
        assert (await scrape(service))("backfills") == 0
        service.simulator.add_fault(Failed(endpoint="egvs", count=5))
        start = (service.clock.now() - 9 * HOUR).isoformat()
        asked = await service.api.post("/api/users/ada/connections/dexcom/backfill", json={"from": start})
        assert asked.status_code == 202
        await anyio.sleep(5)
        assert (await scrape(service))("backfills") == 1
        await anyio.sleep(3600)
        assert (await scrape(service))("backfills") == 0


class CrashingActor:
    """Connection to a broker that breaks this many times."""

    state = BrokerState.CONNECTED

    def __init__(self, times: int) -> None:
        self._left = times

    async def __call__(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await anyio.sleep(1)
        if self._left:
            self._left -= 1
            raise BrokerUnavailable
        await anyio.sleep_forever()


@pytest.mark.slow
async def test_shards_are_those_served_here_and_restarts_are_counted_by_actor(service: ServiceHarness) -> None:
    service.replace_services(broker=CrashingActor(times=2))
    assert (await scrape(service))("shards") == 0
    async with service.running():
        await anyio.sleep(600)
        metrics = await scrape(service)
    assert metrics("shards") == SHARDS
    assert metrics("actor_restarts_total", actor="broker") == metrics("actor_restarts_total") == 2
