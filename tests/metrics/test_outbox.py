"""How much waits to be told, and for how long: seen by looking on while the relay works."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from bg_ingest.adapters.sqlite import open_store
from bg_ingest.domain.commits import told
from bg_ingest.domain.connections import State
from bg_ingest.domain.events import Change, ConnectionChanged
from bg_ingest.domain.ids import UserId, shard_of
from bg_ingest.errors import BrokerUnavailable, EventRefused
from bg_ingest.metrics.outbox import MeasuredOutbox
from bg_ingest.ports import Pending, Store
from bg_ingest.services.relay import Relay
from tests.fakes.clock import NOON, SetClock

ADA, BEN = UserId("ada"), UserId("ben")


class Broker:
    """Refuses the events of some, or is away."""

    def __init__(self) -> None:
        self.refuses: Collection[UserId] = ()
        self.away = False

    async def publish(self, change: Change) -> bool:
        if self.away:
            raise BrokerUnavailable
        if change.user in self.refuses:
            raise EventRefused
        return True


class Desk:
    def __init__(self, store: Store) -> None:
        self.clock = SetClock(NOON)
        self.broker = Broker()
        self.store = store
        self.outbox = MeasuredOutbox(store.outbox, self.clock)
        self.relay = Relay(self.outbox, self.broker)

    async def commit(self, user: UserId, *, seen: bool = True) -> Change:
        head = await self.store.readings.head(user)
        happened = ConnectionChanged("acme", State.ACTIVE, None)
        commit = told(head, [happened], self.clock.now(), user=user)
        await self.store.readings.commit(commit)
        if seen:
            self.outbox.committed(commit.changes)
        return commit.changes[0]

    async def tell(self, user: UserId, *at_hand: Change) -> None:
        shard = shard_of(user)
        await self.relay.tell(shard, {Pending(shard, each.user, each.number): each for each in at_hand})

    async def erase(self, user: UserId) -> None:
        async for page in self.store.outbox.pending(shard_of(user)):
            await self.store.outbox.settle(page)

    def wait(self, seconds: int) -> None:
        self.clock.advance(timedelta(seconds=seconds))

    @property
    def shown(self) -> tuple[float, float]:
        """How many wait, and for how many seconds the oldest."""
        waiting, oldest = (metric.samples[0].value for metric in self.outbox.collect())
        return waiting, oldest


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with _desk() as desk:
        yield desk


@asynccontextmanager
async def _desk() -> AsyncIterator[Desk]:
    async with open_store(None, SetClock(NOON)) as store:
        yield Desk(store)


async def test_what_is_told_waits_no_more(desk: Desk) -> None:
    await desk.tell(ADA)
    change = await desk.commit(ADA)
    desk.wait(2)
    assert desk.shown == (1, 2)
    await desk.tell(ADA, change)
    assert desk.shown == (0, 0)


async def test_what_another_process_left_is_found_with_its_age(desk: Desk) -> None:
    for _ in range(3):
        await desk.commit(ADA, seen=False)
        desk.wait(60)
    desk.broker.away = True
    with pytest.raises(BrokerUnavailable):
        await desk.tell(ADA)
    assert desk.shown == (3, 180)
    desk.broker.away = False
    await desk.tell(ADA)
    assert desk.shown == (0, 0)


async def test_a_look_into_all_at_once_tells_of_those_where_nothing_waits(desk: Desk) -> None:
    desk.broker.refuses = {ADA, BEN}
    await desk.tell(ADA, await desk.commit(ADA, seen=False))
    await desk.tell(BEN, await desk.commit(BEN, seen=False))
    desk.wait(200)
    await desk.erase(ADA)  # by another process
    assert await desk.relay.waiting([shard_of(ADA), shard_of(BEN)]) == {shard_of(BEN)}
    assert desk.shown == (1, 200)
    await desk.commit(ADA)
    assert desk.shown == (2, 200)


async def test_a_broker_away_does_not_hide_what_comes_meanwhile(desk: Desk) -> None:
    await desk.tell(ADA)
    await desk.tell(BEN)
    desk.broker.away = True
    for _ in range(5):
        await desk.commit(ADA)
        await desk.commit(BEN)
        desk.wait(10)
        with pytest.raises(BrokerUnavailable):
            await desk.tell(ADA)
    assert desk.shown == (10, 50)


async def test_a_refused_event_ages_while_others_are_told(desk: Desk) -> None:
    refused = await desk.commit(ADA)
    desk.broker.refuses = {ADA}
    await desk.tell(ADA, refused)
    desk.wait(100)
    await desk.commit(ADA)
    await desk.tell(ADA)
    assert desk.shown == (2, 100)
    await desk.commit(BEN)
    await desk.tell(BEN)
    assert desk.shown == (2, 100)


async def test_an_outbox_that_somebody_else_tells_by_now_is_forgotten(desk: Desk) -> None:
    desk.broker.refuses = {ADA}
    await desk.commit(ADA)
    await desk.tell(ADA)
    assert desk.shown[0] == 1
    desk.wait(400)
    assert desk.shown == (0, 0)
