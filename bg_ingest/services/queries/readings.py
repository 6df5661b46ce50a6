"""Queries for readings: the newest at the cost of one read, a window in bounded memory."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import anyio.lowlevel
import msgspec

from bg_ingest.domain.commits import Head
from bg_ingest.domain.freshness import Freshness, assess_freshness
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.reading_filter import ReadingFilter
from bg_ingest.domain.readings import StoredReading
from bg_ingest.domain.windows import Window
from bg_ingest.errors import NotFound
from bg_ingest.ports import Clock
from bg_ingest.store.segments import ReadingStore

DEFAULT_WINDOW_LENGTH = timedelta(hours=24)
"""Length of a window without a start."""

SEGMENTS_PER_PASS = 16
"""Segments decoded in one pass of the event loop, about 2 ms, because the embedded store may never suspend."""

DEFAULT_FILTER = ReadingFilter()

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)

Row = TypeVar("Row")


class Latest(msgspec.Struct, frozen=True):
    """Newest reading of a user."""

    head: Head
    newest: StoredReading
    asked_at: datetime

    def freshness(self) -> Freshness:
        """Assess the freshness; computed on demand, because only some answers contain it."""
        return assess_freshness(self.head, self.newest, self.asked_at)


def resolve_window(start: datetime | None, end: datetime | None, now: datetime) -> Window:
    """Return the window of a request with optional bounds; ValueError if it is empty."""
    end = now if end is None else end
    return Window(end - DEFAULT_WINDOW_LENGTH if start is None else start, end)


class ReadingQueries:
    """Reads stored data only; makes no provider call and no write."""

    def __init__(self, readings: ReadingStore, clock: Clock) -> None:
        self._readings = readings
        self._clock = clock

    def now(self) -> datetime:
        return self._clock.now()

    async def head(self, user: UserId) -> Head:
        """Return the head in one read; NotFound if the user never connected or was erased."""
        head = await self._readings.head(user)
        if head is None or head.erased:
            raise NotFound
        return head

    async def latest(self, user: UserId) -> Latest:
        """Return the newest reading in one read; NotFound also before the first one."""
        head = await self.head(user)
        if head.newest is None:
            raise NotFound("There is no reading of this user yet: ask again when the first poll has brought some.")
        return Latest(head, head.newest, self.now())

    def points(
        self, user: UserId, window: Window, reading_filter: ReadingFilter = DEFAULT_FILTER
    ) -> AsyncGenerator[Sequence[tuple[int, int]]]:
        """Yield (epoch seconds, mg/dL) in ascending batches of one stored segment each."""
        return self._iter_batches(user, window, reading_filter, reading_filter.points, lambda row: row[0])

    def readings(
        self, user: UserId, window: Window, reading_filter: ReadingFilter = DEFAULT_FILTER
    ) -> AsyncGenerator[Sequence[StoredReading]]:
        """Yield whole readings in ascending batches of one stored segment each."""
        return self._iter_batches(
            user, window, reading_filter, reading_filter.readings, lambda row: _ceil_to_seconds(row.reading.measured_at)
        )

    async def _iter_batches(
        self,
        user: UserId,
        window: Window,
        reading_filter: ReadingFilter,
        decode: Callable[[bytes], Sequence[Row]],
        second: Callable[[Row], int],
    ) -> AsyncGenerator[Sequence[Row]]:
        # Readings lie on whole seconds, so comparing whole seconds rounded up is exact and cheap.
        start, end = _ceil_to_seconds(window.start), _ceil_to_seconds(window.end)
        # An answer as of a fixed point never changes, so it must not show the lag of an eventually consistent read.
        packed = self._readings.iter_packed(user, window, consistent=reading_filter.as_of is not None)
        number = 0
        async with aclosing(packed):
            async for segment in packed:
                number += 1
                if number % SEGMENTS_PER_PASS == 0:
                    await anyio.lowlevel.checkpoint()
                rows = decode(segment)
                if rows and (second(rows[0]) < start or second(rows[-1]) >= end):
                    rows = [row for row in rows if start <= second(row) < end]
                if rows:
                    yield rows


def _ceil_to_seconds(instant: datetime) -> int:
    return -((_EPOCH - instant) // _SECOND)
