"""Owned shards: their connections are scheduled, and the relay publishes their unpublished changes."""

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing, suppress
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
from bg_ingest.store import Store
from workers.relay import RelayActor
from workers.scheduler import Scheduler
from workers.wakeup import Wakeup

log: structlog.stdlib.BoundLogger = structlog.get_logger()

REREAD_AFTER = 5.0
"""Seconds between the first and the second read of the directory after a take-over. The request of a connection that
was added in between may be addressed to the previous owner."""

RECONCILE_INTERVAL_SECONDS = 15 * 60.0
"""Seconds between reads of a directory. A wake-up may be lost, but the read finds its row."""

RETRY_SECONDS = 1.0

LOAD_TIMEOUT = 15.0
"""Seconds after a take-over in which the connections of a shard should be scheduled. The process stays ready until
then, so that a hand-over makes no process unready."""

MAX_CONCURRENT_READS = 8
"""Directories read at the same time."""

# 2026-11-28: a new owner has no due times. One first poll per connection, most of them only to read its row
# and grant, took 500 reads for a replica with 500 connections, and due polls waited up to 2 s behind them. Batches take
# a fiftieth of the calls and half of the read units; due connections are read twice.
READ_BATCH = 50
"""Connections read by one call: few enough to leave the event loop time for other tasks in between."""

FIRST_POLL_DELAY = timedelta(seconds=60)
"""Delay before the first poll of a connection that is not read yet. Reading it replaces this due time."""


class OwnedShard(NamedTuple):
    """Lease of a shard, with the time of its take-over."""

    lease: Lease
    taken_at: float


class Shards:
    """Runs one task per owned shard, which schedules the connections of its directory and adds it to the relay.

    ``add_shards``, ``cancel`` and ``finish`` (see ``ShardConsumer``) set the desired state. The actor reconciles its
    tasks with that state, also after a crash of the actor.
    """

    def __init__(
        self,
        store: Store,
        scheduler: Scheduler,
        relay: RelayActor,
        clock: Clock,
        demand: Demand,
        poller: Poller,
    ) -> None:
        self._connections, self._outbox = store.connections, store.outbox
        self._scheduler = scheduler
        self._relay = relay
        self._clock = clock
        self._demand = demand
        self._poller = poller
        self._owned: dict[int, OwnedShard] = {}
        self._tasks: dict[int, tuple[Lease, anyio.CancelScope]] = {}
        self._loaded: set[int] = set()
        self._semaphore = anyio.Semaphore(MAX_CONCURRENT_READS)
        self._wakeup = Wakeup()
        self._unreadable = False

    def is_loaded(self, shard: int) -> bool:
        """Return True once the connections of a shard are scheduled and no poll from before the take-over runs."""
        return shard in self._loaded

    @property
    def loading(self) -> int:
        return len(self._owned.keys() - self._loaded)

    @property
    def load_overdue(self) -> bool:
        """True if an owned shard exceeds ``LOAD_TIMEOUT``."""
        latest = anyio.current_time() - LOAD_TIMEOUT
        return any(self._owned[shard].taken_at < latest for shard in self._owned.keys() - self._loaded)

    def add_shards(self, taken: Collection[Lease]) -> None:
        now = anyio.current_time()
        self._owned |= {lease.shard: OwnedShard(lease, now) for lease in taken}
        self._update_loaded_fraction()
        self._wakeup.set()

    def cancel(self, shards: Collection[int]) -> None:
        self._remove(shards)
        self._scheduler.cancel(shards)
        self._relay.cancel(shards)

    async def finish(self, shards: Collection[int]) -> None:
        """Stop serving; running polls end or are cancelled, deliveries are settled or abandoned."""
        self._remove(shards)
        await self._scheduler.finish(shards)
        await self._relay.finish(shards)

    async def __call__(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        self._tasks.clear()
        async with anyio.create_task_group() as group:
            task_status.started()
            while True:
                self._start_missing(group)
                await self._wakeup.wait(RECONCILE_INTERVAL_SECONDS)

    async def iter_connections(self) -> AsyncGenerator[ConnectionId]:
        """Yield all connections listed in the owned shards, the paused ones too."""
        for shard in list(self._owned):
            async with aclosing(self._connections.iter_directory(shard)) as rows:
                async for listed in rows:
                    if shard not in self._owned:
                        break
                    yield listed.id

    def _remove(self, shards: Collection[int]) -> None:
        for shard in shards:
            self._owned.pop(shard, None)
            self._loaded.discard(shard)
            if task := self._tasks.pop(shard, None):
                task[1].cancel()
        self._update_loaded_fraction()

    def _update_loaded_fraction(self) -> None:
        """Report the fraction of loaded shards; it is never 0, because it is a divisor."""
        self._demand.update_loaded_fraction(max(1, len(self._loaded)) / max(1, len(self._owned)))

    def _start_missing(self, group: TaskGroup) -> None:
        for shard, (lease, _) in self._owned.items():
            known = self._tasks.get(shard)
            if known is None or known[0] != lease:
                if known:
                    known[1].cancel()
                scope = anyio.CancelScope()
                self._tasks[shard] = lease, scope
                group.start_soon(self._run_shard, lease, scope, name=f"shard {shard}")

    async def _run_shard(self, lease: Lease, scope: anyio.CancelScope) -> None:
        with scope:
            await self._scheduler.wait_idle(lease.shard)  # polls of an earlier ownership may still run
            new = await self._load(lease)
            self._loaded.add(lease.shard)
            self._update_loaded_fraction()
            loaded_at = anyio.current_time()
            await self._set_first_polls(new)
            await anyio.sleep_until(loaded_at + REREAD_AFTER)
            while True:
                await self._set_first_polls(await self._load(lease))
                await anyio.sleep(RECONCILE_INTERVAL_SECONDS)

    async def _load(self, lease: Lease) -> list[ConnectionId]:
        """Schedule all listed connections that are not paused; return those that were not scheduled yet.

        A connection whose directory row was deleted is unscheduled by its next poll, which reads the connection.
        """
        while True:
            try:
                async with self._semaphore:
                    new = await self._read_directory(lease)
            except StoreUnavailable:
                if not self._unreadable:
                    log.warning("cannot read the directory", action="directory_unreadable", shard=lease.shard)
                self._unreadable = True
                await anyio.sleep(RETRY_SECONDS)
            else:
                if self._unreadable:
                    log.info("reads the directory again", action="directory_readable")
                self._unreadable = False
                return new

    async def _read_directory(self, lease: Lease) -> list[ConnectionId]:
        directory = await self._outbox.read_directory(lease.shard)
        self._relay.add_directory(lease.shard, directory)
        scheduled = self._scheduler.scheduled
        new = [row for row in directory.connections if not row.paused and row.id not in scheduled]
        due = self._clock.now() + FIRST_POLL_DELAY
        for row in new:
            self._scheduler.schedule(row.id, epoch=lease.epoch, due=due, demand=self._demand.for_directory_row(row))
        return [row.id for row in new]

    async def _set_first_polls(self, new: Sequence[ConnectionId]) -> None:
        """Read connections in batches. First polls that would make no request are skipped; the others are due now."""
        for start in range(0, len(new), READ_BATCH):
            batch = new[start : start + READ_BATCH]
            polls: dict[ConnectionId, PollReport] = {}
            with suppress(Exception):  # each connection then has a first poll, which reports its own error
                async with self._semaphore:
                    connections = await self._connections.get_many(batch)
                for connection in connections:
                    if poll := self._poller.report_without_fetch(connection):
                        polls[connection.id] = poll
            now = self._clock.now()
            for connection_id in batch:
                poll = polls.get(connection_id)
                self._scheduler.set_first_poll(connection_id, poll.due or now if poll else now, poll)
