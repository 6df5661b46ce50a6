"""Connections of owned shards are scheduled, with retries, and affect readiness."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, NamedTuple, cast

import anyio

from bg_ingest.adapters.sqlite import open_table
from bg_ingest.domain.call_budget import BudgetKey, CallDemand
from bg_ingest.domain.connections import Connection, DirectoryRow, WorkerSettings
from bg_ingest.domain.ids import ConnectionId, UserId, shard_of
from bg_ingest.domain.ownership import Lease
from bg_ingest.domain.polling import Outcome, PollReport, PollResult, PollState
from bg_ingest.ports import Observer
from bg_ingest.services.budget.demand import Demand
from bg_ingest.services.polling.poll import Poller
from bg_ingest.services.publishing.relay import Relay
from bg_ingest.store import Store
from tests.fakes.faults import Fault, FaultyCalls
from tests.fakes.poll_listener import RecordingListener, lasting_view
from tests.harness.sample_values import commit_connection, connection, replaced_fields
from tests.harness.service import LoopClock
from workers.relay import RelayActor
from workers.scheduler import Scheduler
from workers.shards import Shards

ADA, BEN = (ConnectionId(UserId(name), "acme") for name in ("ada", "ben"))
LEASE_OF_ADA = Lease(shard_of(ADA.user), 4, "me")


class ScriptedDemand:
    """Demand of one value for all rows of a directory."""

    def __init__(self) -> None:
        self.of_rows: CallDemand | None = None
        self.loaded_fractions: list[float] = []

    def for_directory_row(self, row: DirectoryRow) -> CallDemand | None:
        return self.of_rows

    def update_loaded_fraction(self, fraction: float) -> None:
        self.loaded_fractions.append(fraction)


class ScriptedPoller:
    """Reports without a fetch, scripted by the test."""

    def __init__(self) -> None:
        self.report: Callable[[Connection], PollReport | None] = lambda _: None

    def report_without_fetch(self, connection: Connection) -> PollReport | None:
        return self.report(connection)


class Stores(NamedTuple):
    """The stores that shards are read from."""

    connections: Any
    outbox: Any


class ShardsWorld:
    def __init__(self, store: Store, clock: LoopClock) -> None:
        self.broken = self.unreadable = False
        self.store, self.clock = store, clock
        listing = FaultyCalls(
            cast("Any", store.outbox), lambda _: Fault.BEFORE if self.broken else None, only={"read_directory"}
        )
        rows = FaultyCalls(
            cast("Any", store.connections), lambda _: Fault.BEFORE if self.unreadable else None, only={"get_many"}
        )
        nothing: Any = None
        self.listener = RecordingListener()
        self.scheduler = Scheduler(nothing, clock, lasting_view(), self.listener)
        relay = RelayActor(Relay(store.outbox, nothing, Observer()))
        self.demand, self.poller = ScriptedDemand(), ScriptedPoller()
        demand, poller = cast("Demand", self.demand), cast("Poller", self.poller)
        self.shards = Shards(cast("Any", Stores(rows, listing)), self.scheduler, relay, clock, demand, poller)

    async def connect(self, whom: ConnectionId, *, paused: bool = False) -> None:
        new = connection(id=whom, provider_account=whom.user)
        await commit_connection(self.store, replaced_fields(new, worker=WorkerSettings(paused=paused)))


@asynccontextmanager
async def open_shards_world() -> AsyncIterator[ShardsWorld]:
    clock = LoopClock()
    async with open_table(None, clock) as table, anyio.create_task_group() as group:
        here = ShardsWorld(Store(table, clock), clock)
        await group.start(here.shards)
        yield here
        group.cancel_scope.cancel()


async def test_taking_a_shard_schedules_its_connections_under_its_epoch_and_no_others() -> None:
    async with open_shards_world() as here:
        await here.connect(ADA)
        await here.connect(BEN)
        here.shards.add_shards([LEASE_OF_ADA])
        await anyio.sleep(0.1)
        assert {each: scheduled.epoch for each, scheduled in here.scheduler.scheduled.items()} == {ADA: 4}
        assert (here.shards.loading, here.shards.load_overdue) == (0, False)


async def test_a_paused_connection_is_not_scheduled() -> None:
    async with open_shards_world() as here:
        await here.connect(ADA, paused=True)
        here.shards.add_shards([LEASE_OF_ADA])
        await anyio.sleep(0.1)
        assert not here.scheduler.scheduled


async def test_a_connection_added_through_a_stale_writer_is_found_five_seconds_after_taking() -> None:
    async with open_shards_world() as here:
        here.shards.add_shards([LEASE_OF_ADA])
        await anyio.sleep(1)
        await here.connect(ADA)  # its request went to the previous owner
        await anyio.sleep(4.5)
        assert here.scheduler.scheduled[ADA].due <= here.clock.now()


async def test_a_directory_that_cannot_be_read_is_tried_again_and_makes_unready_only_after_a_while() -> None:
    async with open_shards_world() as here:
        await here.connect(ADA)
        here.broken = True
        here.shards.add_shards([LEASE_OF_ADA])
        await anyio.sleep(14)
        assert (here.shards.loading, here.shards.load_overdue) == (1, False)
        await anyio.sleep(2)
        assert here.shards.load_overdue
        here.broken = False
        await anyio.sleep(1.1)
        assert ADA in here.scheduler.scheduled
        assert not here.shards.load_overdue


async def test_the_fraction_of_loaded_shards_is_known_to_the_demand() -> None:
    async with open_shards_world() as here:
        here.shards.add_shards([LEASE_OF_ADA, Lease(shard_of(BEN.user), 4, "me")])
        assert here.demand.loaded_fractions == [0.5], "never without a shard"
        await anyio.sleep(0.1)
        assert here.demand.loaded_fractions[-1] == 1.0
        here.broken = True
        here.shards.add_shards([Lease(shard, 1, "me") for shard in range(256) if shard != LEASE_OF_ADA.shard])
        await anyio.sleep(0.1)
        assert here.demand.loaded_fractions[-1] == 2 / 256


async def test_a_shard_that_is_dropped_or_released_leaves_nothing_scheduled_and_is_taken_anew() -> None:
    async with open_shards_world() as here:
        await here.connect(ADA)
        here.shards.add_shards([LEASE_OF_ADA])
        await anyio.sleep(0.1)
        here.shards.cancel([LEASE_OF_ADA.shard])
        assert not here.scheduler.scheduled
        here.shards.add_shards([Lease(LEASE_OF_ADA.shard, 6, "me")])
        await anyio.sleep(0.1)
        assert here.scheduler.scheduled[ADA].epoch == 6
        await here.shards.finish([LEASE_OF_ADA.shard])
        await anyio.sleep(timedelta(hours=1).total_seconds())
        assert not here.scheduler.scheduled


async def test_all_connections_of_owned_shards_are_listed_the_paused_ones_too() -> None:
    async with open_shards_world() as here:
        await here.connect(ADA)
        await here.connect(BEN, paused=True)
        here.shards.add_shards([LEASE_OF_ADA, Lease(shard_of(BEN.user), 1, "me")])
        assert {each async for each in here.shards.iter_connections()} == {ADA, BEN}


async def test_first_polls_without_effect_are_skipped_and_the_others_run_at_once() -> None:
    async with open_shards_world() as here:
        later = here.clock.now() + timedelta(minutes=5)
        idle = PollReport(PollResult(Outcome.NOT_DUE), later, PollState(poll_at=later))
        here.poller.report = lambda found: idle if found.id == ADA else None
        await here.connect(ADA)
        await here.connect(BEN)
        here.shards.add_shards([LEASE_OF_ADA, Lease(shard_of(BEN.user), 4, "me")])
        await anyio.sleep(0.01)
        adas, bens = here.scheduler.scheduled[ADA], here.scheduler.scheduled[BEN]
        assert (adas.due, adas.poll_state) == (later, idle.state)
        assert bens.due - here.clock.now() < timedelta(milliseconds=10)


async def test_the_staleness_of_due_connections_is_known_before_their_first_poll() -> None:
    async with open_shards_world() as here:
        shown_at = here.clock.now() - timedelta(hours=1)
        here.poller.report = lambda _: PollReport(PollResult(Outcome.NOT_DUE), None, PollState(visible_at=shown_at))
        await here.connect(ADA)
        here.shards.add_shards([LEASE_OF_ADA])
        await anyio.sleep(0.01)
        scheduled = here.scheduler.scheduled[ADA]
        assert scheduled.poll_state.visible_at == shown_at
        assert scheduled.due - here.clock.now() < timedelta(milliseconds=10)


async def test_connections_that_cannot_be_read_together_each_have_their_first_poll() -> None:
    async with open_shards_world() as here:
        await here.connect(ADA)
        here.unreadable = True
        here.shards.add_shards([LEASE_OF_ADA])
        await anyio.sleep(0.01)
        assert here.scheduler.scheduled[ADA].due <= here.clock.now()


async def test_a_connection_requested_meanwhile_is_polled_at_once() -> None:
    async with open_shards_world() as here:
        later = here.clock.now() + timedelta(minutes=5)
        here.poller.report = lambda _: PollReport(PollResult(Outcome.NOT_DUE), later, PollState(poll_at=later))
        await here.connect(ADA)
        here.scheduler.request_poll(ADA, epoch=4)
        here.shards.add_shards([LEASE_OF_ADA])
        await anyio.sleep(0.01)
        assert here.scheduler.scheduled[ADA].due <= here.clock.now()


async def test_a_connection_with_a_crashing_poll_delays_no_other() -> None:
    async with open_shards_world() as here:

        def crashes(_: object) -> None:
            raise KeyError("a provider that is gone")

        here.poller.report = crashes
        await here.connect(ADA)
        here.shards.add_shards([LEASE_OF_ADA])
        await anyio.sleep(0.01)
        assert here.scheduler.scheduled[ADA].due <= here.clock.now()
        assert here.shards.loading == 0


async def test_the_demand_of_a_preloaded_connection_follows_its_row_and_no_longer_the_directory() -> None:
    async with open_shards_world() as here:
        guessed, known = (
            CallDemand(BudgetKey("acme", "client", "us"), 1 / 60),
            CallDemand(BudgetKey("acme", "client", "ous"), 1 / 300),
        )
        later = here.clock.now() + timedelta(minutes=5)
        here.demand.of_rows = guessed
        here.poller.report = lambda _: PollReport(
            PollResult(Outcome.NOT_DUE), later, PollState(poll_at=later), demand=known
        )
        await here.connect(ADA)
        here.shards.add_shards([LEASE_OF_ADA])
        await anyio.sleep(0.01)
        assert here.listener.demands == [(None, guessed), (guessed, known)]
