"""Verification: a window is fetched again and compared with the stored readings. No reading is written."""

from collections.abc import Mapping
from contextlib import aclosing
from datetime import timedelta

from bg_ingest.domain.connections import POLLED_STATES, Connection
from bg_ingest.domain.grants import Credentials
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.readings import Reading
from bg_ingest.domain.segment_codec import unpack
from bg_ingest.domain.verification import Verification, compare_readings
from bg_ingest.domain.windows import Window
from bg_ingest.errors import Conflict, NotFound, ProviderMisbehaved
from bg_ingest.ports import Page, Priority, Provider
from bg_ingest.services.connections.grants import Grants
from bg_ingest.store import Store


class Verifier:
    """Compares a window at a time. It runs in any process, without ownership of the shard."""

    def __init__(self, store: Store, providers: Mapping[str, Provider], grants: Grants) -> None:
        self._store = store
        self._providers = providers
        self._grants = grants

    def max_window(self, provider: str) -> timedelta:
        """Return the longest window of one comparison, which is one call of the provider."""
        if provider not in self._providers:
            raise NotFound(f"there is no such provider; known are: {', '.join(self._providers)}")
        return self._providers[provider].capabilities.longest_window

    async def verify(self, connection_id: ConnectionId, window: Window) -> Verification | None:
        """Compare the part of a window that polls have read; None if they have read no part of it.

        Conflict if the connection cannot be read or the window is too long; NotFound without the connection; a
        ProviderError or GrantError if the provider does not answer.
        """
        max_window = self.max_window(connection_id.provider)
        if window.length > max_window:
            raise Conflict(f"at most {max_window.days} days can be compared at once: ask for less")
        connection, grant = await self._store.connections.get_with_grant(connection_id)
        if connection is None:
            raise NotFound
        if grant is None or connection.state not in POLLED_STATES:
            raise Conflict(f"the connection is {connection.state}: only a connection that is polled can be compared")
        fetched = _fetched_part(connection, window)
        if fetched is None:
            return None
        provider = self._providers[connection_id.provider]

        async def ask(credentials: Credentials) -> Page:
            return await provider.readings(connection.region, credentials, fetched, Priority.REPAIR)

        page = await self._grants.use(connection, grant, ask)
        if page.provider_account != connection.provider_account:
            raise ProviderMisbehaved("the answer belongs to another account of the provider")
        # after the fetch, so that readings that a poll stores during the fetch do not count as missing in the store
        stored = await self._read_stored(connection, fetched)
        unreadable = sum(record.measured_at is None or record.measured_at in fetched for record in page.unreadable)
        return compare_readings(fetched, stored, page.readings, unreadable)

    async def _read_stored(self, connection: Connection, window: Window) -> list[Reading]:
        readings: list[Reading] = []
        packed = self._store.readings.iter_packed(connection.id.user, window, consistent=True)
        async with aclosing(packed):
            async for segment in packed:
                readings += [stored.reading for stored in unpack(segment)]
        own = connection.id.provider, connection.provider_account
        return [reading for reading in readings if (reading.device.provider, reading.device.provider_account) == own]


def _fetched_part(connection: Connection, window: Window) -> Window | None:
    """Return the part of a window that has been read: after the unfinished backfill, up to the watermark."""
    if connection.watermark is None:
        return None
    until = min(window.end, connection.watermark + timedelta(seconds=1))
    start = window.start
    if connection.backfill and connection.backfill.end > start:
        start = min(until, connection.backfill.end)
    return Window(start, until) if start < until else None
