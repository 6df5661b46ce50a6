"""Parts of ``Grants``: sealed credentials, claims, and renewed grants that are not stored yet."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from random import uniform

import anyio
import structlog
from msgspec.structs import replace

from bg_ingest.domain.grants import CLAIM_STALE_AFTER, Credentials, Grant, Renewal, SecretBytes
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.errors import Fenced, GrantBusy, StaleRead, StoreError, StoreUnavailable
from bg_ingest.ports import Sealer
from bg_ingest.store.grants import GrantStore


class GrantSealer:
    """Seals and opens the credentials of grants, bound to the place where they are stored."""

    def __init__(self, sealer: Sealer, table: str) -> None:
        self._sealer = sealer
        self._table = table

    def open(self, grant: Grant) -> SecretBytes:
        """Return the content; SealBroken if no key fits, or the sealed bytes were moved or altered."""
        return SecretBytes(self._sealer.open(grant.sealed, grant.associated_data(self._table)))

    def seal(self, grant: Grant, credentials: Credentials) -> Grant:
        """Return the grant with the sealed content of these credentials. Its other fields stay as they are."""
        sealed = self._sealer.seal(credentials.content.reveal(), grant.associated_data(self._table))
        return replace(grant, sealed=sealed)


class GrantClaims:
    """Claims and the times of their first observation, on the monotonic clock of this process.

    A claimed grant is not renewed until the claim was observed unchanged for a minute.
    """

    def __init__(self) -> None:
        self._seen: dict[ConnectionId, tuple[str, float]] = {}

    def check(self, grant: Grant) -> None:
        """Raise GrantBusy while a claim on the grant may belong to a running process."""
        if grant.claim is None:
            return
        now = anyio.current_time()
        claim, since = self._seen.get(grant.id, ("", now))
        if claim != grant.claim:
            since = now
            self._seen[grant.id] = (grant.claim, since)
        remaining = CLAIM_STALE_AFTER - timedelta(seconds=now - since)
        if remaining > timedelta(0):
            raise GrantBusy(remaining)

    def forget(self, connection: ConnectionId) -> None:
        self._seen.pop(connection, None)


MIN_DELAY_SECONDS = 0.1
MAX_DELAY_SECONDS = 5.0
"""Exponential backoff between attempts to store a grant; jitter shortens each delay by up to a half."""

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True)
class UnstoredGrants:
    """Keeps each renewed grant in memory until the store holds it or another grant in its place.

    If the replaced credentials are single-use, a renewed grant that is lost cannot be requested again.
    """

    grants: GrantStore
    open_grant: Callable[[Grant], Credentials]
    on_stored: Callable[[Grant], None]
    _unstored: dict[ConnectionId, Grant] = field(default_factory=dict, init=False)

    def get(self, connection: ConnectionId) -> Grant | None:
        return self._unstored.get(connection)

    async def store(self, successor: Grant) -> Grant:
        """Store the successor, with retries until cancellation. Return it, or the newer grant stored in its place.

        Fenced if the connection was disconnected or connected anew.
        """
        self._unstored[successor.id] = successor
        delay = MIN_DELAY_SECONDS
        while True:
            try:
                await self.grants.store(successor)
                break
            except StaleRead:
                with suppress(StoreUnavailable):
                    return await self._resolve_conflict(successor)
            except StoreError:
                connection = str(successor.id)
                log.warning("a new pair of tokens is not stored yet", action="grant_unstored", connection=connection)
            await anyio.sleep(uniform(delay / 2, delay))
            delay = min(delay * 2, MAX_DELAY_SECONDS)
        self._forget(successor)
        self.on_stored(successor)
        return successor

    async def _resolve_conflict(self, successor: Grant) -> Grant:
        """Return the stored grant. It is the successor itself if only the reply to its write was lost."""
        stored = await self.grants.get(successor.id)
        self._forget(successor)
        if stored is None or stored.generation != successor.generation:
            raise Fenced
        own = self.open_grant(successor)
        if own.renewal is Renewal.SINGLE_USE and self.open_grant(stored).content != own.content:
            connection = str(successor.id)
            log.error("another pair of tokens was stored first", action="grant_superseded", connection=connection)
        return stored

    def _forget(self, successor: Grant) -> None:
        """Remove this successor only: another poll may have put a later one in its place."""
        if self._unstored.get(successor.id) is successor:
            del self._unstored[successor.id]
