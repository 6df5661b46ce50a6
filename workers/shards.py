"""What this process does with the shards it owns: seats for their connections, and their outboxes told."""

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from datetime import timedelta
from typing import NamedTuple

import anyio
import structlog
from anyio.abc import TaskGroup, TaskStatus

from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.ownership import Lease
from bg_ingest.domain.polling import PollReport
from bg_ingest.errors import StoreUnavailable
from bg_ingest.ports import Clock
from bg_ingest.services.budget.demand import Demand
from bg_ingest.services.polling.poll import Poller
from bg_ingest.store.connections import ConnectionStore
from workers.relay import RelayActor
from workers.scheduler import Scheduler
from workers.wakeup import Wakeup

log: structlog.stdlib.BoundLogger = structlog.get_logger()

REREAD_AFTER = 5.0
"""Seconds after taking a shard until its directory is read again: who connected meanwhile may have rung elsewhere."""

RECONCILE_INTERVAL_SECONDS = 15 * 60.0
"""Seconds between full readings of a directory: hints may be lost, rows are not."""

RETRY_SECONDS = 1.0

LOAD_TIMEOUT = 15.0
"""Seconds after taking a shard in which its connections should be seated; a hand-over makes nobody unready."""

MAX_CONCURRENT_READS = 8
"""Directories read at the same time."""

# 2026-11-28: a new owner does not know the due times. One first poll per connection, most of them only to read its row
# and grant, took 500 reads for a replica with 500 connections, and due polls waited up to 2 s among them. Batches take
# a fiftieth of the calls and half of the read units; due connections are read twice.
READ_BATCH = 50
"""Connections read by one call: few enough for the loop to have time for others in between."""

FIRST_POLLS_PER_SECOND = 1_000
"""Of first turns after taking shards, which find out when the next looks are due."""

MAX_SPREAD = timedelta(seconds=120)

FIRST_POLL_DELAY = timedelta(seconds=1)
"""After that a connection's first turn begins, whether it is foreseen by then or not."""


class TakeOver(NamedTuple):
    """When shards were taken, and how many at once."""

    at: float
    shards: int


class Shards:
    """Seats who is listed with the scheduler, and gives the relay its outboxes: a task for each shard we own.

    ``take``, ``drop`` and ``rest`` state what is owned; the actor makes it so, again after a crash of its own.
    """

    def __init__(
        self,
        connections: ConnectionStore,
        scheduler: Scheduler,
        relay: RelayActor,
        clock: Clock,
        demand: Demand,
        poller: Poller,
    ) -> None:
        self._connections = connections
        self._scheduler = scheduler
        self._relay = relay
        self._clock = clock
        self._demand = demand
        self._poller = poller
        self._owned: dict[int, Lease] = {}
        self._take_overs: dict[int, TakeOver] = {}
        self._tasks: dict[int, tuple[Lease, anyio.CancelScope]] = {}
        self._loaded: set[int] = set()
        self._semaphore = anyio.Semaphore(MAX_CONCURRENT_READS)
        self._wakeup = Wakeup()
        self._unreadable = False

    def is_loaded(self, shard: int) -> bool:
        """Whether the connections of a shard are seated, and no turn from before it was taken is under way."""
        return shard in self._loaded

    @property
    def loading(self) -> int:
        """How many shards we own whose connections are not seated yet."""
        return len(self._owned.keys() - self._loaded)

    @property
    def load_overdue(self) -> bool:
        """Whether any of them should have been by now."""
        latest = anyio.current_time() - LOAD_TIMEOUT
        return any(self._take_overs[shard].at < latest for shard in self._owned.keys() - self._loaded)

    def add_shards(self, taken: Collection[Lease]) -> None:
        """Serve these from now on."""
        self._owned.update({each.shard: each for each in taken})
        self._take_overs |= dict.fromkeys([each.shard for each in taken], TakeOver(anyio.current_time(), len(taken)))
        self._demand.prime()
        self._update_loaded_fraction()
        self._wakeup.set()

    def cancel(self, shards: Collection[int]) -> None:
        """Stop serving at once, and cut off what is under way: it is somebody else's turn."""
        self._remove(shards)
        self._scheduler.cancel(shards)
        self._relay.cancel(shards)

    async def finish(self, shards: Collection[int]) -> None:
        """Stop serving; return when no turn is under way and what was told is settled, or given up."""
        self._remove(shards)
        await self._scheduler.finish(shards)
        await self._relay.finish(shards)

    async def __call__(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Keep a task for each shard we own, until cancelled."""
        self._tasks.clear()
        async with anyio.create_task_group() as group:
            task_status.started()
            while True:
                self._start_missing(group)
                await self._wakeup.wait(RECONCILE_INTERVAL_SECONDS)

    async def iter_connections(self) -> AsyncGenerator[ConnectionId]:
        """Yield all connections listed in our shards, the paused ones too."""
        for shard in list(self._owned):
            async with aclosing(self._connections.iter_directory(shard)) as rows:
                async for listed in rows:
                    if shard not in self._owned:
                        break
                    yield listed.id

    def _remove(self, shards: Collection[int]) -> None:
        for shard in shards:
            self._owned.pop(shard, None)
            self._take_overs.pop(shard, None)
            self._loaded.discard(shard)
            if found := self._tasks.pop(shard, None):
                found[1].cancel()
        self._update_loaded_fraction()

    def _update_loaded_fraction(self) -> None:
        """Take note of the part of our shards whose connections are seated; it is never nothing."""
        self._demand.update_loaded_fraction(max(1, len(self._loaded)) / max(1, len(self._owned)))

    def _start_missing(self, group: TaskGroup) -> None:
        for shard, lease in self._owned.items():
            known = self._tasks.get(shard)
            if known is None or known[0] != lease:
                if known:
                    known[1].cancel()
                scope = anyio.CancelScope()
                self._tasks[shard] = lease, scope
                group.start_soon(self._run_shard, lease, scope, name=f"shard {shard}")

    async def _run_shard(self, lease: Lease, scope: anyio.CancelScope) -> None:
        with scope:
            await self._scheduler.wait_idle(lease.shard)  # of turns that we had when it was ours before
            self._relay.add_shards([lease.shard])
            loaded = await self._load(lease)
            self._loaded.add(lease.shard)
            self._update_loaded_fraction()
            taken_at = anyio.current_time()
            await self._set_first_polls(lease, loaded)
            await anyio.sleep_until(taken_at + REREAD_AFTER)
            while True:
                await self._load(lease)
                await anyio.sleep(RECONCILE_INTERVAL_SECONDS)

    async def _load(self, lease: Lease) -> list[ConnectionId]:
        """Seat who is listed and not paused. Who is gone leaves at the next turn, which reads the connection."""
        while True:
            try:
                async with self._semaphore:
                    loaded = await self._read_directory(lease)
            except StoreUnavailable:
                if not self._unreadable:
                    log.warning("cannot read the directory", action="directory_unreadable", shard=lease.shard)
                self._unreadable = True
                await anyio.sleep(RETRY_SECONDS)
            else:
                if self._unreadable:
                    log.info("reads the directory again", action="directory_readable")
                self._unreadable = False
                return loaded

    async def _read_directory(self, lease: Lease) -> list[ConnectionId]:
        async with aclosing(self._connections.iter_directory(lease.shard)) as rows:
            listed = [each async for each in rows if not each.paused]
        now = self._clock.now() + FIRST_POLL_DELAY
        for each in listed:
            due = now + self._spread(lease, len(listed)) * each.id.jitter
            self._scheduler.schedule(each.id, epoch=lease.epoch, due=due, demand=self._demand.for_directory_row(each))
        return [each.id for each in listed]

    async def _set_first_polls(self, lease: Lease, loaded: Sequence[ConnectionId]) -> None:
        """Read a shard's connections together: first turns that come to nothing are not taken, the others at once."""
        polls: dict[ConnectionId, PollReport] = {}
        try:
            for start in range(0, len(loaded), READ_BATCH):
                async with self._semaphore:
                    found = await self._connections.get_many(loaded[start : start + READ_BATCH])
                polls |= {each.id: poll for each in found if (poll := self._poller.report_without_fetch(each))}
        except Exception:  # noqa: BLE001 - each has its first turn then, and says for itself what is wrong with it alone
            return
        due = {each: poll.due for each, poll in polls.items() if poll.due}
        now, spread = self._clock.now(), self._spread(lease, len(loaded) - len(due))
        for each in loaded:
            self._scheduler.set_first_poll(each, due.get(each) or now + spread * each.jitter, polls.get(each))

    def _spread(self, lease: Lease, polls: int) -> timedelta:
        """Return over how long a shard's first turns are spread, that come with those of all taken together."""
        together = self._take_overs[lease.shard].shards if lease.shard in self._take_overs else 1
        return min(MAX_SPREAD, timedelta(seconds=polls * together / FIRST_POLLS_PER_SECOND))
