"""Refresh of idle grants. Other refreshes precede a call, but a paused connection makes no calls."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress

import anyio
import structlog
from anyio.abc import TaskStatus

from bg_ingest.domain.grants import IDLE_REFRESH_AFTER
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.errors import IngestError, StoreError
from bg_ingest.ports import Clock
from bg_ingest.services.connections.grants import Grants
from bg_ingest.store.connections import ConnectionStore

log: structlog.stdlib.BoundLogger = structlog.get_logger()

INTERVAL_SECONDS = 24 * 3600.0
"""Seconds between two rounds."""

FIRST_DELAY_SECONDS = 600.0
"""Seconds between the start and the first round, because other work is more urgent after a restart."""


class Refresher:
    """Refreshes the idle grants of all owned shards once a day."""

    def __init__(
        self,
        connections: ConnectionStore,
        grants: Grants,
        clock: Clock,
        ids: Callable[[], AsyncGenerator[ConnectionId]],
    ) -> None:
        self._connections = connections
        self._grants = grants
        self._clock = clock
        self._ids = ids

    async def __call__(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await anyio.sleep(FIRST_DELAY_SECONDS)
        while True:
            with suppress(StoreError):  # the next round is early enough: grants are refreshed days before they expire
                await self.refresh_idle_grants()
            await anyio.sleep(INTERVAL_SECONDS)

    async def refresh_idle_grants(self) -> int:
        """Refresh every grant that was not refreshed for ``IDLE_REFRESH_AFTER``; return the number of successes."""
        refreshed = 0
        async with aclosing(self._ids()) as ids:
            async for connection_id in ids:
                connection, grant = await self._connections.get_with_grant(connection_id)
                if connection and grant and self._clock.now() - grant.refreshed_at >= IDLE_REFRESH_AFTER:
                    with suppress(IngestError):  # the next poll of the connection reports it
                        await self._grants.refresh(connection, grant)
                        refreshed += 1
        if refreshed:
            log.info("refreshed idle grants", action="grants_refreshed", count=refreshed)
        return refreshed
