"""Which shards this process serves. One process serves them all; the directory says who is in them."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import timedelta

import anyio
import structlog
from anyio.abc import TaskStatus

from bg_ingest.domain.ids import SHARDS, ConnectionId
from bg_ingest.errors import StoreUnavailable
from bg_ingest.ports import Clock, Connections
from workers.relay import RelayActor
from workers.scheduler import Scheduler

log: structlog.stdlib.BoundLogger = structlog.get_logger()

RECONCILE_EVERY = 15 * 60.0
"""Seconds between full readings of the directory: hints may be lost, rows are not."""

SPREAD = timedelta(seconds=5)
"""Over which the first turns after a start are laid; a turn that is not due asks nobody."""

ONLY_EPOCH = 1
"""Ownership never changes hands while there is one process."""


class Shards:
    """Seats every listed connection with the scheduler, and gives the relay its outboxes."""

    def __init__(self, connections: Connections, scheduler: Scheduler, relay: RelayActor, clock: Clock) -> None:
        self._connections = connections
        self._scheduler = scheduler
        self._relay = relay
        self._clock = clock
        self._unreadable = False

    async def __call__(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Seat all before saying that we have started, then reconcile until cancelled."""
        await self.reconcile()
        self._relay.take(range(SHARDS))
        task_status.started()
        while True:
            await anyio.sleep(RECONCILE_EVERY)
            try:
                await self.reconcile()
                self._unreadable = False
            except StoreUnavailable:
                if not self._unreadable:
                    log.warning("cannot read the directory", action="directory_unreadable")
                self._unreadable = True

    async def reconcile(self) -> None:
        """Seat who is listed and not paused. Who is gone leaves at the next turn, which reads the connection."""
        now = self._clock.now()
        for shard in range(SHARDS):
            async with aclosing(self._connections.listed(shard)) as rows:
                async for listed in rows:
                    if not listed.paused:
                        self._scheduler.seat(listed.id, epoch=ONLY_EPOCH, due=now + SPREAD * listed.id.jitter)

    def look(self, connection: ConnectionId) -> None:
        """Take the hint that a connection is new, changed, or to be looked at now."""
        self._scheduler.ask(connection, epoch=ONLY_EPOCH)

    async def connections(self) -> AsyncGenerator[ConnectionId]:
        """Yield all connections listed in our shards, the paused ones too."""
        for shard in range(SHARDS):
            async with aclosing(self._connections.listed(shard)) as rows:
                async for listed in rows:
                    yield listed.id
