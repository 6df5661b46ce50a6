from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from structlog.testing import capture_logs

from bg_ingest.adapters.sqlite import open_store
from bg_ingest.domain.commits import told
from bg_ingest.domain.connections import State
from bg_ingest.domain.events import Change, ConnectionChanged
from bg_ingest.domain.ids import SHARDS, UserId, shard_of
from bg_ingest.errors import BrokerUnavailable, EventRefused
from bg_ingest.ports import Store
from bg_ingest.services.relay import Relay
from tests.fakes.faults import Fault, Faulty, at
from tests.house import LoopClock
from workers.backoff import Backoff
from workers.relay import RelayActor

ADA, BEN = UserId("ada"), UserId("ben")
EXACT = Backoff(first=1, ceiling=8, jitter=lambda low, high: high)


class Broker:
    """A publisher that does what the test says."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.down = False
        self.refuses: set[str] = set()
        self.takes = 0.0

    async def publish(self, change: Change) -> bool:
        await anyio.sleep(self.takes)
        if self.down:
            raise BrokerUnavailable
        if change.id in self.refuses:
            raise EventRefused
        self.told.append(change.id)
        return True


class Told:
    """A store, the relay over it, and commits that it should tell."""

    def __init__(self, store: Store, clock: LoopClock) -> None:
        self.store = store
        self.clock = clock
        self.broker = Broker()
        self.relay = RelayActor(Relay(store.outbox, self.broker), backoff=EXACT)

    async def commit(self, user: UserId, *, hint: bool = True) -> None:
        head = await self.store.readings.head(user)
        now = self.clock.now()
        happened = ConnectionChanged("dexcom", State.ACTIVE, None)
        commit = told(head, [happened], head.next_instant(now) if head else now, user=user)
        await self.store.readings.commit(commit)
        if hint:
            self.relay.told(commit.changes)

    async def waiting(self) -> int:
        return sum([len(page) for shard in range(SHARDS) async for page in self.store.outbox.pending(shard)])


@asynccontextmanager
async def telling() -> AsyncIterator[Told]:
    clock = LoopClock()
    async with open_store(None, clock) as store:
        told = Told(store, clock)
        told.relay.take(range(SHARDS))
        async with anyio.create_task_group() as group:
            await group.start(told.relay)
            yield told
            group.cancel_scope.cancel()


async def test_a_commit_is_told_at_its_hint_and_settled() -> None:
    async with telling() as told:
        await told.commit(ADA)
        await anyio.sleep(0.1)
        assert told.broker.told == ["ada/1"]
        assert await told.waiting() == 0


async def test_while_the_broker_is_away_it_is_known_what_waits_in_a_shard_that_is_taken_then() -> None:
    async with telling() as told:
        told.relay.drop([shard_of(BEN)])
        await told.commit(BEN, hint=False)
        told.broker.down = True
        await told.commit(ADA)
        await anyio.sleep(5)
        assert told.relay.backlog == 1
        told.relay.take([shard_of(BEN)])
        await anyio.sleep(1)
        assert told.relay.backlog == 2


async def test_a_lost_hint_costs_a_minute_at_most() -> None:
    async with telling() as told:
        await anyio.sleep(1)
        await told.commit(ADA, hint=False)
        await anyio.sleep(60)
        assert told.broker.told == ["ada/1"]


async def test_case_42_what_waits_for_the_broker_goes_out_in_order_when_it_is_back() -> None:
    async with telling() as told:
        told.broker.down = True
        for _ in range(3):
            await told.commit(ADA)
            await told.commit(BEN)
            await anyio.sleep(10)
        assert not told.broker.told
        assert told.relay.failures > 1
        assert await told.waiting() == 6
        told.broker.down = False
        await anyio.sleep(9)
        assert [each for each in told.broker.told if each.startswith("ada")] == ["ada/1", "ada/2", "ada/3"]
        assert [each for each in told.broker.told if each.startswith("ben")] == ["ben/1", "ben/2", "ben/3"]
        assert (await told.waiting(), told.relay.failures) == (0, 0)


async def test_a_refused_event_holds_back_its_users_later_ones_alone() -> None:
    async with telling() as told:
        told.broker.refuses = {"ada/2"}
        for _ in range(3):
            await told.commit(ADA)
            await told.commit(BEN)
        await anyio.sleep(61)
        assert sorted(told.broker.told) == ["ada/1", "ben/1", "ben/2", "ben/3"]
        told.broker.refuses = set()
        await anyio.sleep(60)
        assert told.broker.told[-2:] == ["ada/2", "ada/3"]
        assert await told.waiting() == 0


async def test_case_43_what_was_told_but_not_settled_is_told_again_under_the_same_id() -> None:
    async with telling() as told:
        broken = Relay(Faulty(told.store.outbox, at(1, Fault.BEFORE), only={"settle"}), told.broker)
        told.relay._relay = broken
        await told.commit(ADA)
        await anyio.sleep(5)
        assert told.broker.told == ["ada/1", "ada/1"]
        assert await told.waiting() == 0


async def test_many_users_are_told_at_once_each_in_order() -> None:
    async with telling() as told:
        told.broker.takes = 1.0
        users = [UserId(f"u{number}") for number in range(10)]
        for _ in range(3):
            for user in users:
                await told.commit(user, hint=False)
        await anyio.sleep(130)
        assert len(told.broker.told) == 30
        for user in users:
            assert [each for each in told.broker.told if each.startswith(f"{user}/")] == [
                f"{user}/{n}" for n in (1, 2, 3)
            ]


async def test_a_shard_that_is_given_back_tells_what_waits_and_then_no_more() -> None:
    async with telling() as told:
        await told.commit(ADA)
        await told.relay.rest(range(SHARDS))
        assert told.broker.told == ["ada/1"]
        assert await told.waiting() == 0
        await told.commit(ADA)
        await anyio.sleep(61)
        assert told.broker.told == ["ada/1"]


async def test_a_shard_whose_telling_hangs_is_given_back_after_two_seconds() -> None:
    async with telling() as told:
        told.broker.takes = 3600.0
        await told.commit(ADA)
        await anyio.sleep(1)
        began = anyio.current_time()
        await told.relay.rest(range(SHARDS))
        assert anyio.current_time() - began == pytest.approx(2, abs=0.01)
        assert await told.waiting() == 1


async def test_a_shard_is_not_kept_for_a_broker_that_is_away() -> None:
    async with telling() as told:
        told.broker.down = True
        await told.commit(ADA)
        await anyio.sleep(1)
        began = anyio.current_time()
        await told.relay.rest(range(SHARDS))
        assert anyio.current_time() == began


async def test_a_burst_over_many_users_is_told_several_shards_at_once() -> None:
    async with telling() as told:
        told.broker.takes = 1.0
        users = [UserId(f"u{number}") for number in range(24)]
        assert len({shard_of(user) for user in users}) >= 20
        for user in users:
            await told.commit(user)
        await anyio.sleep(3.5)
        assert len(told.broker.told) == 24


async def test_a_broker_that_is_away_is_said_to_be_away_until_it_is_back() -> None:
    async with telling() as told:
        told.broker.down = True
        await told.commit(ADA)
        failures = []
        for _ in range(300):
            await anyio.sleep(1)
            failures.append(told.relay.failures)
        assert min(failures) > 0, "an outbox with nothing to tell proves no broker"
        assert failures == sorted(failures)
        told.broker.down = False
        await anyio.sleep(9)
        assert told.broker.told == ["ada/1"]
        assert told.relay.failures == 0


async def test_a_store_that_is_back_is_seen_even_if_there_is_nothing_to_tell() -> None:
    async with telling() as told:
        told.relay._relay = Relay(Faulty(told.store.outbox, at(1, Fault.BEFORE), only={"pending"}), told.broker)
        told.relay.ring([0])
        await anyio.sleep(0.5)
        assert told.relay.failures == 1
        await anyio.sleep(9)
        assert told.relay.failures == 0


async def test_a_store_that_does_not_say_what_waits_is_asked_for_each_outbox() -> None:
    async with telling() as told:
        told.relay._relay = Relay(Faulty(told.store.outbox, at(1, Fault.BEFORE), only={"waiting"}), told.broker)
        await told.commit(ADA, hint=False)
        await anyio.sleep(60.5)
        assert told.broker.told == ["ada/1"]
        assert told.relay.failures == 0


async def test_while_one_look_hangs_hints_are_heard_and_the_next_look_finds_the_rest() -> None:
    async with telling() as told:
        await anyio.sleep(1)
        told.relay._relay = Relay(Faulty(told.store.outbox, at(1, Fault.HANG), only={"waiting"}), told.broker)
        await told.commit(BEN, hint=False)
        await anyio.sleep(60)
        await told.commit(ADA)
        await anyio.sleep(0.5)
        assert told.broker.told == ["ada/1"]
        await anyio.sleep(60)
        assert told.broker.told == ["ada/1", "ben/1"]


async def test_an_event_that_is_refused_no_more_because_it_is_gone_is_told_in_the_log() -> None:
    async with telling() as told:
        told.broker.refuses = {"ada/1"}
        with capture_logs() as lines:
            await told.commit(ADA)
            await anyio.sleep(1)
            async for page in told.store.outbox.pending(shard_of(ADA)):
                await told.store.outbox.settle(page)
            await anyio.sleep(61)
        assert [line["action"] for line in lines] == ["events_refused", "events_accepted"]


async def test_refused_events_are_logged_once_when_it_begins_and_once_when_it_is_over() -> None:
    async with telling() as told:
        users = [UserId(f"u{number}") for number in range(5)]
        told.broker.refuses = {f"{user}/1" for user in users}
        with capture_logs() as lines:
            for user in users:
                await told.commit(user)
            await anyio.sleep(121)
            told.broker.refuses = set()
            await anyio.sleep(121)
        edges = [line["action"] for line in lines if line["action"].startswith("events_")]
        assert edges == ["events_refused", "events_accepted"]
