"""What becomes of a look that was asked for, until it was had: whoever has the shard, whatever fails meanwhile."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, cast

import anyio

from bg_ingest.adapters.sqlite import open_table
from bg_ingest.adapters.table.protocol import Table
from bg_ingest.adapters.table.store import TableStore
from bg_ingest.domain.ids import ConnectionId, UserId, shard_of
from bg_ingest.domain.leases import Owner
from bg_ingest.domain.outcomes import Ending, Outcome
from bg_ingest.domain.turns import Plan, Turn
from bg_ingest.ports import Ring
from bg_ingest.services.relay import Relay
from tests.fakes.faults import Fault, Faulty
from tests.house import LoopClock
from workers.relay import RelayActor
from workers.rings import RingReader
from workers.scheduler import Scheduler

ADA = ConnectionId(UserId("ada"), "acme")
SHARD = shard_of(ADA.user)
EVERY = 4.0
DAY = timedelta(days=1)


class Looks:
    """Turns that end as the test says, after as many seconds, once a day; each of them is noted."""

    def __init__(self, clock: LoopClock) -> None:
        self.clock = clock
        self.ending = Ending.READ
        self.seconds = 0.0
        self.had: list[bool] = []

    async def turn(self, connection_id: ConnectionId, epoch: int, plan: Plan, *, asked: bool = False) -> Turn:
        await anyio.sleep(self.seconds)
        self.had.append(asked)
        again = timedelta(seconds=10) if self.ending is Ending.UNAVAILABLE else DAY
        due = None if self.ending is Ending.REFUSED else self.clock.now() + again
        return Turn(Outcome(self.ending), due)


class Process:
    """One that reads rings for the shards it has."""

    def __init__(self, name: str, table: Any, clock: LoopClock) -> None:
        self.name = name
        self.store = TableStore(table, clock)
        self.fails = False
        self.looks = Looks(clock)
        self.scheduler = Scheduler(self.looks, clock)
        self.epochs: dict[int, int] = {}
        rings = Faulty(self.store.rings, lambda _: Fault.BEFORE if self.fails else None, only={"heard"})
        self.readings = Faulty(cast("Any", rings), lambda _: None, only={"waiting"})
        nothing: Any = None
        self.reader = RingReader(
            cast("Any", self.readings),
            self.scheduler,
            RelayActor(Relay(self.store.outbox, nothing)),
            me=lambda: self.name,
            epoch=self.epochs.get,
            seated=lambda shard: shard in self.epochs,
            every=EVERY,
        )
        self.scheduler.looked = self.reader.looked

    async def take(self) -> None:
        board = await self.store.ownership.board()
        taken = await self.store.ownership.take([board.leases[SHARD]], self.name)
        self.epochs[SHARD] = taken[0].epoch
        self.reader.inherit(taken)

    async def give_back(self) -> None:
        """Take no more turns and let the shard go, as for a hand-over."""
        epoch = self.epochs.pop(SHARD)
        await self.scheduler.rest([SHARD])
        lease = (await self.store.ownership.board()).leases[SHARD]
        assert lease.epoch == epoch
        await self.store.ownership.give_back([lease])

    async def waiting(self) -> list[Ring]:
        return await self.store.rings.waiting(self.name)


@asynccontextmanager
async def processes(*names: str) -> AsyncIterator[list[Process]]:
    clock = LoopClock()
    async with open_table(None, clock) as table, anyio.create_task_group() as group:
        found = [Process(name, cast("Table", table), clock) for name in names]
        for each in found:
            await each.store.ownership.enter(Owner(each.name))
            await group.start(each.scheduler)
            await group.start(each.reader)
        yield found
        group.cancel_scope.cancel()


async def ask(process: Process) -> None:
    """Ask for a look as its API does."""
    await process.store.rings.ring(ADA)
    process.reader.hurry()
    await anyio.sleep(0.5)


async def test_a_ring_stays_until_its_look_was_had() -> None:
    async with processes("a") as [a]:
        await a.take()
        a.looks.ending = Ending.UNAVAILABLE
        await ask(a)
        await anyio.sleep(60)
        assert len(a.looks.had) == 7
        assert a.looks.had[:2] == [True, False], "it was asked for once"
        assert len(await a.waiting()) == 1
        a.looks.ending = Ending.READ
        await anyio.sleep(10 + EVERY)
        assert len(a.looks.had) == 8
        assert not await a.waiting()


async def test_of_many_rings_for_one_look_one_stays() -> None:
    async with processes("a") as [a]:
        await a.take()
        a.looks.seconds = 60
        for _ in range(20):
            await ask(a)
        assert len(await a.waiting()) == 1
        await anyio.sleep(200)
        assert a.looks.had == [True, True], "one that was under way, and one that began after the last was asked for"
        assert not await a.waiting()


async def test_a_look_is_had_once_though_its_ring_cannot_be_forgotten_for_long() -> None:
    async with processes("a") as [a]:
        await a.take()
        a.fails = True
        await ask(a)
        await anyio.sleep(300)
        assert a.looks.had == [True]
        await ask(a)
        await anyio.sleep(2 * EVERY)
        assert a.looks.had == [True, True], "who asks meanwhile is heard"
        a.fails = False
        await anyio.sleep(2 * EVERY)
        assert a.looks.had == [True, True]
        assert not await a.waiting()


async def test_who_lost_the_grant_asks_for_no_more() -> None:
    async with processes("a") as [a]:
        await a.take()
        a.looks.ending = Ending.REFUSED
        await ask(a)
        await anyio.sleep(2 * EVERY)
        assert a.looks.had == [True]
        assert not await a.waiting()


async def test_a_look_outlasts_any_number_of_hand_overs() -> None:
    async with processes("a", "b", "c") as [a, b, c]:
        await a.take()
        for each in (a, b):
            each.looks.ending = Ending.BUDGET_SPENT
        await ask(a)
        for before, after in ((a, b), (b, c)):
            await before.give_back()
            await after.take()
            await anyio.sleep(2)
        assert c.looks.had == [True]
        await anyio.sleep(2 * EVERY)
        assert not [ring for each in (a, b, c) for ring in await each.waiting()]


async def test_who_takes_its_own_shard_again_reads_no_more_often_for_a_look_that_waits() -> None:
    async with processes("a") as [a]:
        await a.take()
        a.looks.ending = Ending.BUDGET_SPENT
        await ask(a)
        await a.give_back()
        await a.take()
        before = a.readings.calls
        await anyio.sleep(10)
        assert a.readings.calls - before < 25
        assert len(await a.waiting()) == 1


async def test_a_look_asked_for_while_a_turn_comes_to_rest_is_had_by_the_next_owner() -> None:
    async with processes("a", "b") as [a, b]:
        await a.take()
        a.looks.seconds = 1.5
        a.scheduler.ask(ADA, epoch=a.epochs[SHARD])
        await anyio.sleep(0.5)
        await ask(a)  # a turn is under way that began before
        await a.give_back()
        assert a.looks.had == [True]
        await b.take()
        await anyio.sleep(2 * EVERY)
        assert b.looks.had == [True]


async def test_a_killed_process_leaves_its_looks_to_who_takes_over() -> None:
    async with processes("a", "b") as [a, b]:
        await a.take()
        a.looks.seconds = 1e6
        await ask(a)
        a.epochs.clear()
        a.reader._me = lambda: None  # nothing of it reads any more
        await a.store.ownership.bury(Owner("a"))
        await b.take()
        await anyio.sleep(2)
        assert b.looks.had == [True]
