"""Queries for missing readings and for the completeness of each day."""

from contextlib import aclosing
from datetime import datetime, timedelta

from bg_ingest.domain.commits import ConnectionSummary, Head
from bg_ingest.domain.completeness import Day, DayCounter, Punctuality
from bg_ingest.domain.connections import Connection
from bg_ingest.domain.freshness import GAP_AFTER, LATE_TOLERANCE, overdue_before
from bg_ingest.domain.gaps import Gap
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.segment_codec import unpack
from bg_ingest.domain.windows import Window
from bg_ingest.errors import NotFound
from bg_ingest.ports import Clock
from bg_ingest.services.polling.gaps import ALL_TIME
from bg_ingest.store import Store


class CompletenessQueries:
    """Reads stored data only; makes no provider call and no write."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def now(self) -> datetime:
        return self._clock.now()

    async def gaps(self, user: UserId, window: Window) -> list[tuple[str, Gap]]:
        """Return each provider's gaps that reach into the window, open and healed, by their start.

        NotFound if the user never connected or was erased.
        """
        head = await self._read_head(user)
        rows = [
            (provider, gap)
            for provider in head.summaries
            for gap in await self._read_gaps(ConnectionId(user, provider), window)
        ]
        return sorted(rows, key=lambda row: (row[1].start, row[0]))

    async def days(self, user: UserId, window: Window) -> list[Day]:
        """Return the days of the window with any data, for each provider; NotFound as above."""
        head = await self._read_head(user)
        counters: dict[str, DayCounter] = {}
        for connection in await self._store.connections.list_for_user(user):
            provider = connection.id.provider
            if provider not in head.summaries:
                continue
            summary = head.summaries[provider]
            counters[provider] = counter = DayCounter(
                provider, window, _punctuality_of(connection, summary), summary.cadence_seconds
            )
            gaps = await self._read_gaps(connection.id, window)
            until = overdue_before(self._clock.now(), timedelta(seconds=summary.delay_seconds))
            counter.add_gaps([gap for gap in gaps if gap.healed_at is None], until)
        await self._count(user, window, counters)
        return sorted(
            (day for counter in counters.values() for day in counter.days()), key=lambda day: (day.date, day.provider)
        )

    async def _count(self, user: UserId, window: Window, counters: dict[str, DayCounter]) -> None:
        async with aclosing(self._store.readings.iter_packed(user, window)) as packed:
            async for segment in packed:
                rows = unpack(segment)
                for provider, counter in counters.items():
                    counter.add_readings([row for row in rows if row.reading.device.provider == provider])
        async with aclosing(self._store.quarantine.iter_pages(user)) as pages:
            async for page in pages:
                if isinstance(page.key, int) or not window.start <= page.key < window.end:
                    continue
                for record in page.records:
                    provider = record.provider or next(iter(counters), "")
                    if record.sealed and provider in counters:
                        counters[provider].add_quarantined(page.key, 1)

    async def _read_gaps(self, connection: ConnectionId, window: Window) -> list[Gap]:
        # a gap may have begun long before the window
        months = await self._store.gaps.read_months(connection, ALL_TIME.start, window.end)
        gaps = (gap for month in months for gap in month.gaps)
        return [gap for gap in gaps if gap.start < window.end and (gap.before is None or gap.before > window.start)]

    async def _read_head(self, user: UserId) -> Head:
        head = await self._store.readings.head(user)
        if head is None or head.erased:
            raise NotFound
        return head


def _punctuality_of(connection: Connection, summary: ConnectionSummary) -> Punctuality:
    since = connection.available.end if connection.available else connection.connected_at
    polls = timedelta(seconds=max(summary.interval_seconds, summary.cadence_seconds))
    return Punctuality(since, timedelta(seconds=summary.delay_seconds) + polls + LATE_TOLERANCE + GAP_AFTER)
