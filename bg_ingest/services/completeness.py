"""Answering what is missing of a user, and how complete each day is."""

from contextlib import aclosing
from datetime import datetime, timedelta

from bg_ingest.domain.columns import unpack
from bg_ingest.domain.commits import Head, Standing
from bg_ingest.domain.completeness import Day, Tally, Timely
from bg_ingest.domain.connections import Connection
from bg_ingest.domain.freshness import GAP_AFTER, SLACK
from bg_ingest.domain.gaps import Gap
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.windows import Window
from bg_ingest.errors import Unknown
from bg_ingest.ports import Clock, Connections, Gaps, Readings
from bg_ingest.services.gaps import EVER


class Completeness:
    """Reads what is stored; asks no provider and changes nothing."""

    def __init__(self, readings: Readings, connections: Connections, gaps: Gaps, clock: Clock) -> None:
        self._readings = readings
        self._connections = connections
        self._gaps = gaps
        self._clock = clock

    def now(self) -> datetime:
        return self._clock.now()

    async def gaps(self, user: UserId, window: Window) -> list[tuple[str, Gap]]:
        """Return each provider's gaps that reach into the window, open and healed, by where they begin.

        Unknown when the user never connected or was erased.
        """
        head = await self._head(user)
        found = [
            (provider, gap)
            for provider in head.standings
            for gap in await self._of(ConnectionId(user, provider), window)
        ]
        return sorted(found, key=lambda each: (each[1].start, each[0]))

    async def days(self, user: UserId, window: Window) -> list[Day]:
        """Return the window's days of which anything is known, of each provider; Unknown as above."""
        head = await self._head(user)
        tallies: dict[str, Tally] = {}
        for connection in await self._connections.of_user(user):
            provider = connection.id.provider
            if provider not in head.standings:
                continue
            standing = head.standings[provider]
            tallies[provider] = tally = Tally(provider, window, _timely(connection, standing), standing.cadence_seconds)
            gaps = await self._of(connection.id, window)
            shown = self._clock.now() - timedelta(seconds=standing.delay_seconds) - SLACK - GAP_AFTER
            tally.lack([gap for gap in gaps if gap.healed_at is None], shown)
        await self._count(user, window, tallies)
        return sorted(
            (day for tally in tallies.values() for day in tally.days()), key=lambda day: (day.date, day.provider)
        )

    async def _count(self, user: UserId, window: Window, tallies: dict[str, Tally]) -> None:
        async with aclosing(self._readings.packed(user, window)) as packed:
            async for each in packed:
                rows = unpack(each)
                for provider, tally in tallies.items():
                    tally.count([row for row in rows if row.reading.device.provider == provider])
        async with aclosing(self._readings.all_shelves(user)) as shelves:
            async for shelf in shelves:
                if isinstance(shelf.place, int) or not window.start <= shelf.place < window.end:
                    continue
                for record in shelf.records:
                    provider = record.provider or next(iter(tallies), "")
                    if record.sealed and provider in tallies:
                        tallies[provider].set_aside(shelf.place, 1)

    async def _of(self, connection: ConnectionId, window: Window) -> list[Gap]:
        ledgers = await self._gaps.ledgers(connection, EVER.start, window.end)  # a gap may have begun long before
        gaps = (gap for ledger in ledgers for gap in ledger.gaps)
        return [gap for gap in gaps if gap.start < window.end and (gap.before is None or gap.before > window.start)]

    async def _head(self, user: UserId) -> Head:
        head = await self._readings.head(user)
        if head is None or head.erased:
            raise Unknown
        return head


def _timely(connection: Connection, standing: Standing) -> Timely:
    since = connection.available.end if connection.available else connection.connected_at
    polls = timedelta(seconds=max(standing.interval_seconds, standing.cadence_seconds))
    return Timely(since, timedelta(seconds=standing.delay_seconds) + polls + SLACK + GAP_AFTER)
