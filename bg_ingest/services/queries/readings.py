"""Queries for readings: the newest at the cost of one read, a window in bounded memory."""

from bisect import bisect_left
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any

import msgspec

from bg_ingest.domain.commits import Head
from bg_ingest.domain.freshness import Freshness, assess_freshness
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.merging import CONTEXT_SECONDS, SegmentRows, newest_shown
from bg_ingest.domain.reading_filter import ReadingFilter
from bg_ingest.domain.reading_versions import ReadingVersion
from bg_ingest.domain.readings import StoredReading
from bg_ingest.domain.windows import Window
from bg_ingest.errors import NotFound
from bg_ingest.ports import Clock
from bg_ingest.services.pauses import pause
from bg_ingest.services.queries.kept_segments import KeptSegments
from bg_ingest.store.segments import ReadingStore

DEFAULT_WINDOW_LENGTH = timedelta(hours=24)
"""Length of a window without a start."""

POINT_SEGMENTS_PER_PASS, READING_SEGMENTS_PER_PASS = 64, 4
"""Segments decoded until the query yields to other tasks. Decoding that many takes about 3 ms for points that are not
in the cache, and 2 ms for whole readings. The query yields explicitly, because reads of the embedded store may never
suspend."""

SEARCHED_LENGTHS = (timedelta(hours=6), timedelta(days=30), timedelta(days=365 * 20))
"""Windows before now that are searched, one after another, for the newest reading that is not in the future."""

DEFAULT_FILTER = ReadingFilter()

_second: Callable[[Sequence[Any]], int] = itemgetter(0)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
CONTEXT = timedelta(seconds=CONTEXT_SECONDS)


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
        self._kept = KeptSegments(DEFAULT_FILTER.decode_points)

    def now(self) -> datetime:
        return self._clock.now()

    async def head(self, user: UserId) -> Head:
        """Return the head in one read; NotFound if the user never connected or was erased."""
        head = await self._readings.head(user)
        if head is None or head.erased:
            raise NotFound
        return head

    async def latest(self, user: UserId) -> Latest:
        """Return the newest reading up to now in one read; NotFound also if there is no such reading.

        If the clock of a device is ahead, its readings have times in the future. While the newest reading is in the
        future, an earlier one is returned, which costs further reads.
        """
        latest = await latest_until(self._readings, await self.head(user), self.now())
        if latest is None:
            raise NotFound("There is no reading of this user yet: ask again when the first poll has brought some.")
        return latest

    def points(
        self, user: UserId, window: Window, reading_filter: ReadingFilter = DEFAULT_FILTER
    ) -> AsyncGenerator[Sequence[tuple[int, int]]]:
        """Yield (epoch seconds, mg/dL) in ascending batches of one stored segment each."""
        is_default = reading_filter == DEFAULT_FILTER
        decode = self._kept.decoder(window) if is_default else reading_filter.decode_points
        return iter_shown(
            self._readings,
            user,
            window,
            reading_filter,
            decode,
            per_pass=POINT_SEGMENTS_PER_PASS if is_default else READING_SEGMENTS_PER_PASS,
        )

    def readings(
        self, user: UserId, window: Window, reading_filter: ReadingFilter = DEFAULT_FILTER
    ) -> AsyncGenerator[Sequence[StoredReading]]:
        """Yield whole readings in ascending batches of one stored segment each."""
        return _third_column(iter_shown(self._readings, user, window, reading_filter, reading_filter.decode_readings))

    def versions(
        self, user: UserId, window: Window, reading_filter: ReadingFilter
    ) -> AsyncGenerator[Sequence[ReadingVersion]]:
        """Yield all values of the readings of all devices, in ascending batches of one stored segment each."""
        return _third_column(iter_shown(self._readings, user, window, reading_filter, reading_filter.decode_versions))


async def _third_column(rows: AsyncGenerator[Sequence[Any]]) -> AsyncGenerator[Sequence[Any]]:
    async with aclosing(rows):
        async for batch in rows:
            yield [row[2] for row in batch]


async def latest_until(store: ReadingStore, head: Head, now: datetime) -> Latest | None:
    """Return the newest reading up to now: the last reading that a query with a window up to now shows."""
    if head.newest is None or head.newest.reading.measured_at <= now:
        return Latest(head, head.newest, now) if head.newest else None
    end = now.replace(microsecond=0) + _SECOND
    for length in SEARCHED_LENGTHS:
        newest = None
        window = Window(end - length, end)
        rows = iter_shown(store, head.user, window, DEFAULT_FILTER, DEFAULT_FILTER.decode_readings, consistent=True)
        async with aclosing(rows) as batches:
            async for batch in batches:
                newest = newest_shown(row[2] for row in batch)
        if newest is not None:
            return Latest(head, newest, now)
    return None


async def iter_shown(
    store: ReadingStore,
    user: UserId,
    window: Window,
    reading_filter: ReadingFilter,
    decode: Callable[[bytes], SegmentRows],
    *,
    consistent: bool = False,
    per_pass: int = READING_SEGMENTS_PER_PASS,
) -> AsyncGenerator[Sequence[Any]]:
    """Yield the shown rows of a window in ascending batches of one stored segment each, as decoded by the filter.

    Readings just outside the window are read too, because the choice of readings at its ends depends on them.
    """
    # Readings lie on whole seconds, so comparing whole seconds rounded up is exact and cheap.
    start, end = _ceil_to_seconds(window.start), _ceil_to_seconds(window.end)
    wider = window if reading_filter.all_devices else Window(window.start - CONTEXT, window.end + CONTEXT)
    # An answer as of a change must be exact at once, but an eventually consistent read may lack the newest changes. An
    # answer as of a time is exact only ``FINAL_AFTER`` later, which is longer than the lag of such a read.
    exact = reading_filter.as_of is not None and reading_filter.as_of.change is not None
    packed = store.iter_packed(user, wider, consistent=consistent or exact)
    async with aclosing(_with_neighbours(packed, decode, per_pass)) as segments:
        async for before, segment, after in segments:
            rows = reading_filter.select(before, segment, after)
            if rows and (rows[0][0] < start or rows[-1][0] >= end):
                rows = rows[bisect_left(rows, start, key=_second) : bisect_left(rows, end, key=_second)]
            if rows:
                yield rows


async def _with_neighbours(
    packed: AsyncGenerator[bytes], decode: Callable[[bytes], SegmentRows], per_pass: int
) -> AsyncGenerator[tuple[SegmentRows | None, SegmentRows, SegmentRows | None]]:
    before = segment = None
    number = 0
    async with aclosing(packed):
        async for content in packed:
            number += 1
            if number % per_pass == 0:
                await pause()
            after = decode(content)
            if segment is not None:
                yield before, segment, after
            before, segment = segment, after
    if segment is not None:
        yield before, segment, None


def _ceil_to_seconds(instant: datetime) -> int:
    return -((_EPOCH - instant) // _SECOND)
