"""Renewed grants that are not stored yet. The credentials they replace are spent, so they are stored until it works."""

from collections.abc import Callable
from contextlib import suppress
from random import uniform

import anyio
import structlog

from bg_ingest.domain.grants import Credentials, Grant, Renewal
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.errors import Fenced, StaleRead, StoreError, StoreUnavailable
from bg_ingest.store.grants import GrantStore

MIN_DELAY_SECONDS = 0.1
MAX_DELAY_SECONDS = 5.0
"""Delays between attempts; each is doubled and shortened by up to a half."""

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class UnstoredGrants:
    """Keeps each renewed grant in memory until it is stored, or another one took its place in the store."""

    def __init__(
        self,
        store: GrantStore,
        open_grant: Callable[[Grant], Credentials],
        on_stored: Callable[[Grant], None],
    ) -> None:
        self._store = store
        self._open_grant = open_grant
        self._on_stored = on_stored
        self._grants: dict[ConnectionId, Grant] = {}

    def __contains__(self, connection: ConnectionId) -> bool:
        return connection in self._grants

    def get(self, connection: ConnectionId) -> Grant | None:
        return self._grants.get(connection)

    async def store(self, successor: Grant) -> Grant:
        """Return the stored grant: the successor, or a newer one. Ends only with that, or by cancellation.

        Raises:
            Fenced: the connection was disconnected or connected anew.
        """
        self._grants[successor.id] = successor
        delay = MIN_DELAY_SECONDS
        while True:
            try:
                await self._store.store(successor)
                break
            except StaleRead:
                with suppress(StoreUnavailable):
                    return await self._resolve_conflict(successor)
            except StoreError:
                log.warning(
                    "a new pair of tokens is not stored yet", action="grant_unstored", connection=str(successor.id)
                )
            await anyio.sleep(uniform(delay / 2, delay))
            delay = min(delay * 2, MAX_DELAY_SECONDS)
        self._forget(successor)
        self._on_stored(successor)
        return successor

    async def _resolve_conflict(self, successor: Grant) -> Grant:
        """Return the stored grant. It is the successor itself if only the reply to its store was lost."""
        stored = await self._store.get(successor.id)
        self._forget(successor)
        if stored is None or stored.generation != successor.generation:
            raise Fenced
        own = self._open_grant(successor)
        if own.renewal is Renewal.SINGLE_USE and self._open_grant(stored).content != own.content:
            connection = str(successor.id)
            log.error("another pair of tokens was stored first", action="grant_superseded", connection=connection)
        return stored

    def _forget(self, successor: Grant) -> None:
        """Drop this successor only: two polls may store the same one, and the next may have replaced it meanwhile."""
        if self._grants.get(successor.id) is successor:
            del self._grants[successor.id]
