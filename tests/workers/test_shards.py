"""What becomes of shards that a process owns: seats, retries, readiness."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, cast

import anyio

from bg_ingest.adapters.sqlite import open_table
from bg_ingest.adapters.table.store import TableStore
from bg_ingest.domain.budget import App, Want
from bg_ingest.domain.connections import WorkerSettings
from bg_ingest.domain.ids import ConnectionId, UserId, shard_of
from bg_ingest.domain.leases import Lease
from bg_ingest.domain.outcomes import Ending, Outcome
from bg_ingest.domain.turns import Plan, Turn
from bg_ingest.services.relay import Relay
from tests.contracts.values import altered, connect, connection
from tests.fakes.faults import Fault, Faulty
from tests.house import LoopClock
from workers.relay import RelayActor
from workers.scheduler import Scheduler
from workers.shards import FORESEEN_WITHIN, Shards

ADA, BEN = (ConnectionId(UserId(name), "acme") for name in ("ada", "ben"))
ADAS = Lease(shard_of(ADA.user), 4, "me")


class World:
    def __init__(self, store: TableStore, clock: LoopClock) -> None:
        self.broken = self.unreadable = False
        self.store, self.clock = store, clock
        listing = Faulty(store.connections, lambda _: Fault.BEFORE if self.broken else None, only={"listed"})
        way = Faulty(cast("Any", listing), lambda _: Fault.BEFORE if self.unreadable else None, only={"several"})
        nothing: Any = None
        self.scheduler = Scheduler(nothing, clock)
        relay = RelayActor(Relay(store.outbox, nothing))
        self.shards = Shards(cast("Any", way), self.scheduler, relay, clock)

    async def connect(self, whom: ConnectionId, *, paused: bool = False) -> None:
        new = connection(id=whom, provider_account=whom.user)
        await connect(self.store, altered(new, worker=WorkerSettings(paused=paused)))


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    clock = LoopClock()
    async with open_table(None, clock) as table, anyio.create_task_group() as group:
        here = World(TableStore(table, clock), clock)
        await group.start(here.shards)
        yield here
        group.cancel_scope.cancel()


async def test_taking_a_shard_seats_its_connections_under_its_epoch_and_nobody_elses() -> None:
    async with world() as here:
        await here.connect(ADA)
        await here.connect(BEN)
        here.shards.take([ADAS])
        await anyio.sleep(0.1)
        assert {each: seat.epoch for each, seat in here.scheduler.seats.items()} == {ADA: 4}
        assert (here.shards.unserved, here.shards.overdue) == (0, False)


async def test_who_is_paused_is_not_seated() -> None:
    async with world() as here:
        await here.connect(ADA, paused=True)
        here.shards.take([ADAS])
        await anyio.sleep(0.1)
        assert not here.scheduler.seats


async def test_who_connects_through_a_writer_with_an_old_look_is_found_five_seconds_after_taking() -> None:
    async with world() as here:
        here.shards.take([ADAS])
        await anyio.sleep(1)
        await here.connect(ADA)  # its ring went to whom the writer took for the owner
        await anyio.sleep(4.5)
        assert ADA in here.scheduler.seats


async def test_a_directory_that_cannot_be_read_is_tried_again_and_makes_unready_only_after_a_while() -> None:
    async with world() as here:
        await here.connect(ADA)
        here.broken = True
        here.shards.take([ADAS])
        await anyio.sleep(14)
        assert (here.shards.unserved, here.shards.overdue) == (1, False)
        await anyio.sleep(2)
        assert here.shards.overdue
        here.broken = False
        await anyio.sleep(1.1)
        assert ADA in here.scheduler.seats
        assert not here.shards.overdue


async def test_a_shard_that_is_dropped_or_given_back_leaves_no_seat_and_is_taken_anew() -> None:
    async with world() as here:
        await here.connect(ADA)
        here.shards.take([ADAS])
        await anyio.sleep(0.1)
        here.shards.drop([ADAS.shard])
        assert not here.scheduler.seats
        here.shards.take([Lease(ADAS.shard, 6, "me")])
        await anyio.sleep(0.1)
        assert here.scheduler.seats[ADA].epoch == 6
        await here.shards.rest([ADAS.shard])
        await anyio.sleep(timedelta(hours=1).total_seconds())
        assert not here.scheduler.seats


async def test_all_connections_of_owned_shards_are_listed_the_paused_ones_too() -> None:
    async with world() as here:
        await here.connect(ADA)
        await here.connect(BEN, paused=True)
        here.shards.take([ADAS, Lease(shard_of(BEN.user), 1, "me")])
        assert {each async for each in here.shards.connections()} == {ADA, BEN}


async def test_first_turns_are_spread_over_as_long_as_those_who_come_with_them_need() -> None:
    """A process that has many shards already loses no time over the connections of one more."""
    async with world() as here:
        here.shards.take([Lease(shard, 1, "me") for shard in range(256) if shard != ADAS.shard])
        await anyio.sleep(1)
        await here.connect(ADA)
        here.shards.take([ADAS])
        await anyio.sleep(0.01)
        one = here.scheduler.seats[ADA].due - here.clock.now()
        here.shards.drop(range(256))
        here.shards.take([ADAS, *(Lease(shard, 2, "me") for shard in range(256) if shard != ADAS.shard)])
        await anyio.sleep(0.01)
        together = here.scheduler.seats[ADA].due - here.clock.now()
    assert one <= timedelta(milliseconds=1)
    assert together > timedelta(milliseconds=256 * ADA.jitter - 20)


async def test_first_turns_that_would_come_to_nothing_are_not_taken_and_the_others_at_once() -> None:
    async with world() as here:
        later = here.clock.now() + timedelta(minutes=5)
        idle = Turn(Outcome(Ending.NOT_DUE), later, Plan(look_at=later))
        here.shards.foreseen = lambda found: idle if found.id == ADA else None
        await here.connect(ADA)
        await here.connect(BEN)
        here.shards.take([ADAS, Lease(shard_of(BEN.user), 4, "me")])
        await anyio.sleep(0.01)
        adas, bens = here.scheduler.seats[ADA], here.scheduler.seats[BEN]
        assert (adas.due, adas.plan) == (later, idle.plan)
        assert bens.due - here.clock.now() < timedelta(milliseconds=10)


async def test_of_those_who_are_due_it_is_known_how_stale_they_are_before_their_first_turn() -> None:
    async with world() as here:
        shown_at = here.clock.now() - timedelta(hours=1)
        here.shards.foreseen = lambda _: Turn(Outcome(Ending.NOT_DUE), None, Plan(shown_at=shown_at))
        await here.connect(ADA)
        here.shards.take([ADAS])
        await anyio.sleep(0.01)
        seat = here.scheduler.seats[ADA]
        assert seat.plan.shown_at == shown_at
        assert seat.due - here.clock.now() < timedelta(milliseconds=10)


async def test_where_they_cannot_be_read_together_each_has_its_first_turn() -> None:
    async with world() as here:
        await here.connect(ADA)
        here.unreadable = True
        here.shards.take([ADAS])
        await anyio.sleep(0.01)
        assert here.scheduler.seats[ADA].due - here.clock.now() <= FORESEEN_WITHIN + timedelta(milliseconds=1)


async def test_who_was_asked_for_meanwhile_is_looked_at_at_once() -> None:
    async with world() as here:
        later = here.clock.now() + timedelta(minutes=5)
        here.shards.foreseen = lambda _: Turn(Outcome(Ending.NOT_DUE), later, Plan(look_at=later))
        await here.connect(ADA)
        here.scheduler.ask(ADA, epoch=4)
        here.shards.take([ADAS])
        await anyio.sleep(0.01)
        assert here.scheduler.seats[ADA].due <= here.clock.now()


async def test_one_whose_turn_would_crash_keeps_nobody_from_theirs() -> None:
    async with world() as here:

        def crashes(_: object) -> None:
            raise KeyError("a provider that is gone")

        here.shards.foreseen = crashes
        await here.connect(ADA)
        here.shards.take([ADAS])
        await anyio.sleep(0.01)
        assert here.scheduler.seats[ADA].due - here.clock.now() <= FORESEEN_WITHIN + timedelta(milliseconds=1)
        assert here.shards.unserved == 0


async def test_who_is_foreseen_wants_what_the_row_says_and_no_longer_what_the_directory_did() -> None:
    async with world() as here:
        guessed, known = Want(App("acme", "client", "us"), 1 / 60), Want(App("acme", "client", "ous"), 1 / 300)
        later = here.clock.now() + timedelta(minutes=5)
        here.shards.want = lambda _: guessed
        here.shards.foreseen = lambda _: Turn(Outcome(Ending.NOT_DUE), later, Plan(look_at=later), want=known)
        wants: list[tuple[Want | None, Want | None]] = []
        here.scheduler.wanted = lambda before, after: wants.append((before, after))
        await here.connect(ADA)
        here.shards.take([ADAS])
        await anyio.sleep(0.01)
        assert wants == [(None, guessed), (guessed, known)]
