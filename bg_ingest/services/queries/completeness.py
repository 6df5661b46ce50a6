"""Queries for missing readings, for the completeness of each day, and for differences from the data of the provider."""

from collections.abc import Mapping
from contextlib import aclosing
from datetime import datetime, timedelta

from bg_ingest.domain.commits import Head
from bg_ingest.domain.completeness import Day, DayCounter, Punctuality
from bg_ingest.domain.connections import POLLED_STATES, Connection
from bg_ingest.domain.freshness import GAP_AFTER, LATE_TOLERANCE, overdue_before
from bg_ingest.domain.gaps import Gap
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.readings import Reading, StoredReading
from bg_ingest.domain.segment_codec import unpack
from bg_ingest.domain.verification import Verification, compare_readings
from bg_ingest.domain.windows import Window
from bg_ingest.errors import Conflict, NotFound, ProviderMisbehaved
from bg_ingest.ports import Clock, Priority, Provider
from bg_ingest.services.connections.grants import Grants
from bg_ingest.services.pauses import pause
from bg_ingest.services.queries.readings import DEFAULT_FILTER, iter_shown
from bg_ingest.store import Store


class CompletenessQueries:
    """Reads stored data only; makes no provider call and no write."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def now(self) -> datetime:
        return self._clock.now()

    async def gaps(self, user: UserId, window: Window) -> list[tuple[str, Gap]]:
        """Return each provider's gaps that overlap the window, open and healed, sorted by start.

        NotFound if the user never connected or was erased.
        """
        head = await self._read_head(user)
        gaps = {provider: await self._read_gaps(ConnectionId(user, provider), window) for provider in head.summaries}
        rows = [(provider, gap) for provider, provider_gaps in gaps.items() for gap in provider_gaps]
        return sorted(rows, key=lambda row: (row[1].start, row[0]))

    async def days(self, user: UserId, window: Window) -> list[Day]:
        """Return the days of the window with any data, for each provider; NotFound as in ``gaps``."""
        head = await self._read_head(user)
        counters: dict[str, DayCounter] = {}
        connections = [ConnectionId(user, provider) for provider in sorted(head.summaries)]
        for connection in await self._store.connections.get_many(connections):
            provider = connection.id.provider
            summary = head.summaries[provider]
            since = connection.available.end if connection.available else connection.connected_at
            poll_interval = timedelta(seconds=max(summary.interval_seconds, summary.cadence_seconds))
            tolerance = timedelta(seconds=summary.delay_seconds) + poll_interval + LATE_TOLERANCE + GAP_AFTER
            punctuality = Punctuality(since, tolerance)
            counters[provider] = counter = DayCounter(provider, window, punctuality, summary.cadence_seconds)
            gaps = await self._read_gaps(connection.id, window)
            until = overdue_before(self._clock.now(), timedelta(seconds=summary.delay_seconds))
            counter.add_gaps([gap for gap in gaps if gap.healed_at is None], until)
        await self._count(user, window, counters)
        days = (day for counter in counters.values() for day in counter.days())
        return sorted(days, key=lambda day: (day.date, day.provider))

    async def _count(self, user: UserId, window: Window, counters: dict[str, DayCounter]) -> None:
        shown = iter_shown(self._store.readings, user, window, DEFAULT_FILTER, DEFAULT_FILTER.decode_readings)
        async with aclosing(shown) as batches:
            async for batch in batches:
                rows: list[StoredReading] = [row[2] for row in batch]
                for provider, counter in counters.items():
                    counter.add_readings([row for row in rows if row.reading.device.provider == provider])
        async with aclosing(self._store.quarantine.iter_pages(user, window)) as pages:
            async for page in pages:
                if isinstance(page.key, int):
                    continue
                for record in page.records:
                    provider = record.provider or next(iter(counters), "")
                    if record.sealed and provider in counters:
                        counters[provider].add_quarantined(page.key, 1)

    async def _read_gaps(self, connection: ConnectionId, window: Window) -> list[Gap]:
        months = await self._store.gaps.read_overlapping(connection, window)
        gaps = (gap for month in months for gap in month.gaps)
        return [gap for gap in gaps if gap.start < window.end and (gap.before is None or gap.before > window.start)]

    async def _read_head(self, user: UserId) -> Head:
        head = await self._store.readings.head(user)
        if head is None or head.erased:
            raise NotFound
        return head


class Verifier:
    """Fetches a window again and compares it with the stored readings; no reading is written.

    It runs in any process, without ownership of the shard.
    """

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
        region, priority = connection.region, Priority.REPAIR
        page = await self._grants.use(
            connection, grant, lambda held: provider.readings(region, held, fetched, priority)
        )
        if page.provider_account != connection.provider_account:
            raise ProviderMisbehaved("the answer belongs to another account of the provider")
        # after the fetch, so that readings that a poll stores during the fetch do not count as missing in the store
        provided = {reading.identity for reading in page.readings}
        stored = [
            reading
            for reading in await self._read_stored(connection, fetched)
            # readings fetched through another of our registered apps have another account id for the same person
            if reading.device.provider_account == page.provider_account or reading.identity in provided
        ]
        unreadable = sum(record.measured_at is None or record.measured_at in fetched for record in page.unreadable)
        return compare_readings(fetched, stored, page.readings, unreadable)

    async def _read_stored(self, connection: Connection, window: Window) -> list[Reading]:
        readings: list[Reading] = []
        packed = self._store.readings.iter_packed(connection.id.user, window, consistent=True)
        async with aclosing(packed):
            async for segment in packed:
                readings += [stored.reading for stored in unpack(segment)]
                await pause()  # a batch of segments takes more than 30 ms
        return [reading for reading in readings if reading.device.provider == connection.id.provider]


def _fetched_part(connection: Connection, window: Window) -> Window | None:
    """Return the part of a window that polls have read: after the unread backfill, up to the watermark inclusive."""
    if connection.watermark is None:
        return None
    until = min(window.end, connection.watermark + timedelta(seconds=1))
    start = window.start
    if connection.backfill and connection.backfill.end > start:
        start = min(until, connection.backfill.end)
    return Window(start, until) if start < until else None
