from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from bg_ingest.adapters.sqlite import open_table
from bg_ingest.domain.changes import Change
from bg_ingest.domain.commits import plan_erasure
from bg_ingest.domain.ids import SHARDS, UserId, shard_of
from bg_ingest.errors import BrokerUnavailable, EventRefused, StoreUnavailable
from bg_ingest.ports import Observer
from bg_ingest.ports.table import Table
from bg_ingest.services.publishing.relay import Relay
from bg_ingest.store import Store, keys
from bg_ingest.store.outbox import OutboxStore
from bg_ingest.store.published import MAX_UNWRITTEN_SECONDS, MAX_UNWRITTEN_USERS
from tests.fakes.faults import CallWrapper, Fault
from tests.harness.sample_values import listed_commit
from tests.harness.service import LoopClock
from tests.harness.table_dump import find_mentions
from workers.relay import RelayActor
from workers.supervisor import Backoff

ADA, BEN = UserId("ada"), UserId("ben")
EXACT = Backoff(first=1, ceiling=8, jitter=lambda low, high: high)


class Broker:
    """Publisher that is scripted by the test."""

    def __init__(self) -> None:
        self.published: list[str] = []
        self.down = False
        self.refuses: set[str] = set()
        self.takes = 0.0

    async def publish(self, change: Change) -> bool:
        await anyio.sleep(self.takes)
        if self.down:
            raise BrokerUnavailable
        if change.id in self.refuses:
            raise EventRefused
        self.published.append(change.id)
        return True


class FaultyOutbox(CallWrapper):
    """An outbox; the next call of a method in ``faults`` fails or hangs."""

    def __init__(self, inner: OutboxStore) -> None:
        super().__init__(inner)
        self.faults: dict[str, Fault] = {}
        self.calls = 0

    async def _around(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        self.calls += 1
        match self.faults.pop(name, None):
            case Fault.HANG:
                await anyio.sleep_forever()
            case Fault.BEFORE:
                raise StoreUnavailable
        return await call()


class RelayHarness:
    """A store, the relay over it, and commits to publish."""

    def __init__(self, table: Table, clock: LoopClock) -> None:
        self.store = store = Store(table, clock)
        self.table = table
        self.clock = clock
        self.broker = Broker()
        self.outbox = FaultyOutbox(store.outbox)
        self.relay = RelayActor(Relay(self.outbox, self.broker, Observer()), backoff=EXACT)

    async def commit(self, user: UserId, *, hint: bool = True) -> None:
        """Commit a change of a user; the first one connects."""
        commit = await listed_commit(self.store, user, self.clock.now())
        await self.store.commits.write(commit)
        if hint:
            self.relay.on_committed(commit.changes)

    async def take(self, shards: Iterable[int] = range(SHARDS)) -> None:
        """Read the directories of shards, as at a take-over or a quarter of an hour later."""
        for shard in shards:
            self.relay.add_directory(shard, await self.outbox.read_directory(shard))

    async def waiting(self) -> int:
        return sum([len(await self.store.outbox.list_shard(shard)) for shard in range(SHARDS)])


@asynccontextmanager
async def open_relay() -> AsyncIterator[RelayHarness]:
    clock = LoopClock()
    async with open_table(None, clock) as table:
        harness = RelayHarness(table, clock)
        await harness.take()
        async with anyio.create_task_group() as group:
            await group.start(harness.relay)
            yield harness
            group.cancel_scope.cancel()


@asynccontextmanager
async def open_successor(predecessor: RelayHarness) -> AsyncIterator[RelayHarness]:
    """Open another process over the same table that owns no shard yet."""
    harness = RelayHarness(predecessor.table, predecessor.clock)
    async with anyio.create_task_group() as group:
        await group.start(harness.relay)
        yield harness
        group.cancel_scope.cancel()


async def test_a_commit_is_published_at_its_hint_and_settled() -> None:
    async with open_relay() as harness:
        await harness.commit(ADA)
        await anyio.sleep(0.1)
        assert harness.broker.published == ["ada/1"]
        assert await harness.waiting() == 0


async def test_while_the_broker_is_away_it_is_known_what_waits_in_a_shard_that_is_taken_then() -> None:
    async with open_relay() as harness:
        harness.relay.cancel([shard_of(BEN)])
        await harness.commit(BEN, hint=False)
        harness.broker.down = True
        await harness.commit(ADA)
        await anyio.sleep(5)
        assert harness.relay.backlog == 1
        await harness.take([shard_of(BEN)])
        await anyio.sleep(1)
        assert harness.relay.backlog == 2


async def test_a_change_without_a_hint_is_found_by_the_next_commit_a_request_and_the_directory() -> None:
    async with open_relay() as harness:
        await anyio.sleep(1)
        await harness.commit(ADA, hint=False)
        await harness.commit(ADA)
        await anyio.sleep(0.1)
        assert harness.broker.published == ["ada/1", "ada/2"]
        await harness.commit(ADA, hint=False)
        harness.relay.wake(ADA)
        await anyio.sleep(0.1)
        assert harness.broker.published == ["ada/1", "ada/2", "ada/3"]
        await harness.commit(ADA, hint=False)
        await harness.take([shard_of(ADA)])
        await anyio.sleep(0.1)
        assert harness.broker.published == ["ada/1", "ada/2", "ada/3", "ada/4"]


async def test_a_change_from_memory_is_published_without_a_call_of_the_store() -> None:
    async with open_relay() as harness:
        await harness.commit(ADA)
        await anyio.sleep(0.1)
        await harness.commit(ADA, hint=False)
        committed = await harness.store.changes.read(ADA, 2, 2)
        calls, harness.outbox.calls = harness.outbox.calls, 0
        harness.relay.on_committed(committed)
        await anyio.sleep(0.1)
        assert harness.broker.published == ["ada/1", "ada/2"]
        assert (calls > 0, harness.outbox.calls) == (True, 1), "settling has no row to delete"


async def test_case_42_what_waits_for_the_broker_goes_out_in_order_when_it_is_back() -> None:
    async with open_relay() as harness:
        harness.broker.down = True
        for _ in range(3):
            await harness.commit(ADA)
            await harness.commit(BEN)
            await anyio.sleep(10)
        assert not harness.broker.published
        assert harness.relay.failures > 1
        assert await harness.waiting() == 6
        harness.broker.down = False
        await anyio.sleep(9)
        assert [each for each in harness.broker.published if each.startswith("ada")] == ["ada/1", "ada/2", "ada/3"]
        assert [each for each in harness.broker.published if each.startswith("ben")] == ["ben/1", "ben/2", "ben/3"]
        assert (await harness.waiting(), harness.relay.failures) == (0, 0)


async def test_a_refused_event_holds_back_its_users_later_ones_alone() -> None:
    async with open_relay() as harness:
        harness.broker.refuses = {"ada/2"}
        for _ in range(3):
            await harness.commit(ADA)
            await harness.commit(BEN)
        await anyio.sleep(61)
        assert sorted(harness.broker.published) == ["ada/1", "ben/1", "ben/2", "ben/3"]
        assert (harness.relay.failures, harness.relay.is_failing, harness.relay.backlog) == (0, True, 1)
        harness.broker.refuses = set()
        await anyio.sleep(60)
        assert harness.broker.published[-2:] == ["ada/2", "ada/3"]
        assert (await harness.waiting(), harness.relay.is_failing) == (0, False)


async def test_case_43_a_change_published_but_not_recorded_is_published_again_under_the_same_id() -> None:
    async with open_relay() as harness, open_successor(harness) as successor:
        await harness.commit(ADA)
        await harness.commit(ADA)
        await anyio.sleep(1)
        await harness.commit(ADA)  # records the first two
        await anyio.sleep(1)
        harness.relay.cancel(range(SHARDS))  # as after a kill: nothing more is recorded
        await successor.take()
        await anyio.sleep(1)
        assert harness.broker.published == ["ada/1", "ada/2", "ada/3"]
        assert successor.broker.published == ["ada/3"]
        await successor.commit(ADA)
        await anyio.sleep(1)
        assert successor.broker.published == ["ada/3", "ada/4"]


async def test_after_a_release_the_next_owner_repeats_nothing_and_misses_nothing() -> None:
    async with open_relay() as harness, open_successor(harness) as successor:
        for user in (ADA, BEN):
            await harness.commit(user)
            await harness.commit(user)
        await anyio.sleep(1)
        await harness.relay.finish(range(SHARDS))
        await harness.commit(BEN, hint=False)
        await successor.take()
        await anyio.sleep(1)
        assert successor.broker.published == ["ben/3"]


async def test_an_owner_that_resumes_after_its_shards_were_taken_publishes_in_order() -> None:
    """Each process knows only published numbers, so that it repeats events, but never publishes one too early."""
    async with open_relay() as stale, open_successor(stale) as successor:
        successor.broker.published = stale.broker.published
        await stale.commit(ADA)
        await anyio.sleep(1)
        await successor.take()
        for _ in range(2):
            await successor.commit(ADA)
        await stale.commit(ADA)  # as a push that the stale owner received
        await anyio.sleep(2)
        first = list(dict.fromkeys(stale.broker.published))
        assert first == ["ada/1", "ada/2", "ada/3", "ada/4"]


async def test_a_shard_released_before_its_search_keeps_the_numbers_of_the_owner_in_between() -> None:
    shard = [shard_of(ADA)]
    async with open_relay() as lost, open_successor(lost) as successor:
        await lost.commit(ADA)
        await anyio.sleep(1)
        lost.relay.cancel(shard)
        await successor.take(shard)
        await successor.commit(ADA)
        await anyio.sleep(1)
        await successor.relay.finish(shard)
        await lost.take(shard)
        await lost.relay.finish(shard)
        assert await lost.waiting() == 0


async def test_a_number_is_recorded_for_a_successor_after_half_an_hour_or_with_many_others() -> None:
    async with open_relay() as harness, open_successor(harness) as successor:
        await harness.commit(ADA)
        users = [user for number in range(40_000) if shard_of(user := UserId(f"u{number}")) == shard_of(BEN)]
        for user in users[:MAX_UNWRITTEN_USERS]:
            await harness.commit(user)
        await anyio.sleep(MAX_UNWRITTEN_SECONDS + 61)
        await successor.take()
        await anyio.sleep(1)
        assert successor.broker.published == []


async def test_an_erased_user_disappears_from_the_row_of_the_shard() -> None:
    async with open_relay() as harness:
        await harness.commit(ADA)
        await anyio.sleep(MAX_UNWRITTEN_SECONDS + 61)
        assert keys.published(shard_of(ADA)) in await find_mentions(harness.table, ADA)
        head = await harness.store.readings.head(ADA)
        planned = plan_erasure(ADA, head, await harness.store.connections.list_for_user(ADA), harness.clock.now())
        await harness.store.erasures.begin(planned)
        while await harness.store.erasures.delete_next(planned.pending):
            pass
        harness.relay.wake(ADA)
        await anyio.sleep(61)
        assert harness.broker.published == ["ada/1", "ada/2"]
        assert (await find_mentions(harness.table, ADA)).keys() == {keys.head(ADA)}


@pytest.mark.parametrize("waits_for", ["broker", "delivery"])
async def test_a_change_of_a_user_that_was_erased_meanwhile_is_not_published(waits_for: str) -> None:
    """Another process erases the user while this relay has a change in memory."""
    async with open_relay() as harness:
        harness.broker.takes = 5.0 if waits_for == "delivery" else 0.0
        await harness.commit(ADA)
        await anyio.sleep(0.1)
        harness.broker.down = waits_for == "broker"
        await harness.commit(ADA)
        await anyio.sleep(0.5)
        head = await harness.store.readings.head(ADA)
        planned = plan_erasure(ADA, head, await harness.store.connections.list_for_user(ADA), harness.clock.now())
        await harness.store.erasures.begin(planned)
        harness.broker.down = False
        await anyio.sleep(60)
        harness.relay.wake(ADA)
        await anyio.sleep(60)
        assert harness.broker.published == ["ada/1", "ada/3"]


async def test_events_of_many_users_are_published_at_once_each_in_order() -> None:
    async with open_relay() as harness:
        harness.broker.takes = 1.0
        users = [UserId(f"u{number}") for number in range(10)]
        for _ in range(3):
            for user in users:
                await harness.commit(user, hint=False)
        await harness.take()
        await anyio.sleep(130)
        assert len(harness.broker.published) == 30
        for user in users:
            assert [each for each in harness.broker.published if each.startswith(f"{user}/")] == [
                f"{user}/{n}" for n in (1, 2, 3)
            ]


async def test_a_shard_that_is_released_publishes_its_outbox_and_then_no_more() -> None:
    async with open_relay() as harness:
        await harness.commit(ADA)
        await harness.relay.finish(range(SHARDS))
        assert harness.broker.published == ["ada/1"]
        assert await harness.waiting() == 0
        await harness.commit(ADA)
        await anyio.sleep(61)
        assert harness.broker.published == ["ada/1"]


async def test_a_shard_whose_publishing_hangs_is_released_after_two_seconds() -> None:
    async with open_relay() as harness:
        harness.broker.takes = 3600.0
        await harness.commit(ADA)
        await anyio.sleep(1)
        began = anyio.current_time()
        await harness.relay.finish(range(SHARDS))
        assert anyio.current_time() - began == pytest.approx(2, abs=0.01)
        assert await harness.waiting() == 1


async def test_a_shard_is_not_kept_for_a_broker_that_is_away() -> None:
    async with open_relay() as harness:
        harness.broker.down = True
        await harness.commit(ADA)
        await anyio.sleep(1)
        began = anyio.current_time()
        await harness.relay.finish(range(SHARDS))
        assert anyio.current_time() == began


async def test_a_burst_over_many_users_is_published_several_shards_at_once() -> None:
    async with open_relay() as harness:
        harness.broker.takes = 1.0
        users = [UserId(f"u{number}") for number in range(24)]
        assert len({shard_of(user) for user in users}) >= 20
        for user in users:
            await harness.commit(user)
        await anyio.sleep(3.5)
        assert len(harness.broker.published) == 24


async def test_a_broker_that_is_away_is_said_to_be_away_until_it_is_back() -> None:
    async with open_relay() as harness:
        harness.broker.down = True
        await harness.commit(ADA)
        failures = []
        for _ in range(300):
            await anyio.sleep(1)
            failures.append(harness.relay.failures)
        assert min(failures) > 0, "an empty outbox proves no broker"
        assert failures == sorted(failures)
        harness.broker.down = False
        await anyio.sleep(9)
        assert harness.broker.published == ["ada/1"]
        assert harness.relay.failures == 0


async def test_a_failure_ends_when_the_shards_with_waiting_changes_are_lost() -> None:
    async with open_relay() as harness:
        harness.broker.down = True
        with capture_logs() as lines:
            await harness.commit(ADA)
            await anyio.sleep(2)
            assert harness.relay.is_failing
            harness.relay.cancel([shard_of(ADA)])
            await anyio.sleep(2)
        assert (harness.relay.backlog, harness.relay.is_failing) == (0, False)
        assert [line["action"] for line in lines] == ["relay_stopped", "relay_recovered"]


async def test_a_refusal_ends_when_the_shards_with_refused_events_are_lost() -> None:
    async with open_relay() as harness:
        harness.broker.refuses = {"ada/1"}
        with capture_logs() as lines:
            await harness.commit(ADA)
            await anyio.sleep(1)
            harness.relay.cancel([shard_of(ADA)])
        assert not harness.relay.is_failing
        assert [line["action"] for line in lines] == ["events_refused", "events_accepted"]


async def test_a_store_that_is_back_is_noticed_even_if_there_is_nothing_to_publish() -> None:
    async with open_relay() as harness:
        await anyio.sleep(1)
        harness.outbox.faults["list_waiting"] = Fault.BEFORE
        harness.relay.wake(ADA)
        await anyio.sleep(0.5)
        assert harness.relay.failures == 1
        await anyio.sleep(9)
        assert harness.relay.failures == 0


async def test_a_directory_that_cannot_be_searched_is_searched_again() -> None:
    async with open_relay() as harness:
        await anyio.sleep(1)
        await harness.commit(ADA, hint=False)
        harness.outbox.faults["find_waiting"] = Fault.BEFORE
        await harness.take([shard_of(ADA)])
        await anyio.sleep(1.5)
        assert harness.broker.published == ["ada/1"]
        assert harness.relay.failures == 0


async def test_while_one_search_hangs_hints_are_handled_and_the_next_search_finds_the_rest() -> None:
    async with open_relay() as harness:
        await anyio.sleep(1)
        await harness.commit(BEN, hint=False)
        harness.outbox.faults["find_waiting"] = Fault.HANG
        await harness.take([shard_of(BEN)])
        await anyio.sleep(1)
        await harness.commit(ADA)
        await anyio.sleep(0.5)
        assert harness.broker.published == ["ada/1"]
        await anyio.sleep(60)
        assert harness.broker.published == ["ada/1", "ben/1"]


async def test_the_log_says_that_an_event_is_refused_no_more_because_it_is_gone() -> None:
    async with open_relay() as harness:
        harness.broker.refuses = {"ada/1"}
        with capture_logs() as lines:
            await harness.commit(ADA)
            await anyio.sleep(1)
            harness.store.outbox.published.confirm(ADA, 1)
            await anyio.sleep(61)
        assert [line["action"] for line in lines] == ["events_refused", "events_accepted"]


async def test_refused_events_are_logged_once_when_it_begins_and_once_when_it_is_over() -> None:
    async with open_relay() as harness:
        users = [UserId(f"u{number}") for number in range(5)]
        harness.broker.refuses = {f"{user}/1" for user in users}
        with capture_logs() as lines:
            for user in users:
                await harness.commit(user)
            await anyio.sleep(121)
            harness.broker.refuses = set()
            await anyio.sleep(121)
        edges = [line["action"] for line in lines if line["action"].startswith("events_")]
        assert edges == ["events_refused", "events_accepted"]
