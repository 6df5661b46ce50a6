"""Prove that we have what the provider has: read it once more, change nothing, and compare."""

from collections.abc import Mapping
from contextlib import aclosing
from datetime import timedelta

from bg_ingest.domain.columns import unpack
from bg_ingest.domain.connections import POLLED, Connection
from bg_ingest.domain.grants import Credentials
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.readings import Reading
from bg_ingest.domain.verification import Verification, verified
from bg_ingest.domain.windows import Window
from bg_ingest.errors import NotPossible, ProviderMisbehaved, Unknown
from bg_ingest.ports import Page, Priority, Provider, Store
from bg_ingest.services.grants import Grants


class Verifying:
    """Compares one window at a time; any process may."""

    def __init__(self, store: Store, providers: Mapping[str, Provider], grants: Grants) -> None:
        self._store = store
        self._providers = providers
        self._grants = grants

    def longest(self, provider: str) -> timedelta:
        """Return how much may be compared at once: what the provider answers in one call."""
        if provider not in self._providers:
            raise Unknown(f"there is no such provider; known are: {', '.join(self._providers)}")
        return self._providers[provider].capabilities.longest_window

    async def verify(self, connection_id: ConnectionId, window: Window) -> Verification | None:
        """Compare a window, as far as polls have read it; None where they have read nothing of it.

        NotPossible when the connection cannot be read or the window is too long; Unknown; a ProviderError or
        GrantError when the provider does not answer.
        """
        longest = self.longest(connection_id.provider)
        if window.length > longest:
            raise NotPossible(f"at most {longest.days} days can be compared at once: ask for less")
        connection, grant = await self._store.connections.with_grant(connection_id)
        if connection is None:
            raise Unknown
        if grant is None or connection.state not in POLLED:
            raise NotPossible(f"the connection is {connection.state}: what cannot be read cannot be compared")
        read = _read(connection, window)
        if read is None:
            return None
        provider = self._providers[connection_id.provider]

        async def ask(credentials: Credentials) -> Page:
            return await provider.readings(connection.region, credentials, read, Priority.REPAIR)

        page = await self._grants.use(connection, grant, ask)
        if page.provider_account != connection.provider_account:
            raise ProviderMisbehaved("the answer is about another person")
        # only now: what polls stored since is no difference, and what they will store the page may not have
        stored = await self._stored(connection, read)
        unreadable = sum(each.measured_at is None or each.measured_at in read for each in page.unreadable)
        return verified(read, stored, page.readings, unreadable)

    async def _stored(self, connection: Connection, window: Window) -> list[Reading]:
        found: list[Reading] = []
        packed = self._store.readings.packed(connection.id.user, window, consistent=True)
        async with aclosing(packed):
            async for each in packed:
                found += [recorded.reading for recorded in unpack(each)]
        whose = connection.id.provider, connection.provider_account
        return [each for each in found if (each.device.provider, each.device.provider_account) == whose]


def _read(connection: Connection, window: Window) -> Window | None:
    """Return what of a window has been read: up to the watermark, and without the past that is still to come."""
    if connection.watermark is None:
        return None
    until = min(window.end, connection.watermark + timedelta(seconds=1))
    start = window.start
    if connection.backfill and connection.backfill.end > start:
        start = min(until, connection.backfill.end)
    return Window(start, until) if start < until else None
