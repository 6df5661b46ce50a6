"""Statistics, daily statistics, profile and series: pure functions of the shown readings of a window."""

from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime
from typing import TypeVar

import msgspec

from bg_ingest.domain.ids import UserId
from bg_ingest.domain.local_time import Zone
from bg_ingest.domain.reading_filter import AsOf, ReadingFilter
from bg_ingest.domain.segment_codec import to_epoch_seconds
from bg_ingest.domain.series import Bins, Series, collect_series
from bg_ingest.domain.summaries import (
    DAY_SECONDS,
    DailyStatistics,
    DaySummary,
    Profile,
    Statistics,
    WindowAnswer,
    summarize_day,
    summarize_profile,
    summarize_window,
)
from bg_ingest.domain.weighting import GroupTotals, ShownReading, WeightedGroups, in_shown_order
from bg_ingest.domain.windows import Window
from bg_ingest.services.pauses import pause
from bg_ingest.services.queries.readings import ReadingQueries

Group = TypeVar("Group")


class StatisticsRequest(msgspec.Struct, frozen=True):
    """Readings of an answer, and the way in which they are grouped."""

    user: UserId
    window: Window
    zone: Zone
    as_of: AsOf | None
    now: datetime
    """Time of the request; the time of ``as_of`` if it is given."""
    ranges: str = "standard"

    @property
    def window_answer(self) -> WindowAnswer:
        return WindowAnswer(
            user_id=self.user, start=self.window.start, end=self.window.end, zone=self.zone.name, ranges=self.ranges
        )

    @property
    def span(self) -> tuple[int, int]:
        """Epoch seconds of the part of the window that is not in the future."""
        start, end = to_epoch_seconds(self.window.start), to_epoch_seconds(min(self.window.end, self.now))
        return start, max(start, end)


class StatisticsQueries:
    """Reads stored data only, and counts the readings that a query of the window shows.

    Yields to other tasks after each segment.
    """

    def __init__(self, reader: ReadingQueries) -> None:
        self._reader = reader

    async def window(self, request: StatisticsRequest) -> Statistics:
        """Return the statistics of the whole window."""
        groups = await self._collect(request, lambda _: None)
        start, end = request.span
        return summarize_window(request.window_answer, groups.get(None) or GroupTotals(), end - start)

    async def daily(self, request: StatisticsRequest) -> DailyStatistics:
        """Return the statistics of each local day with readings, ascending."""
        groups = await self._collect(request, lambda shown: (shown.second + shown.offset) // DAY_SECONDS)
        days = [self._summarize_day(request, day, groups[day]) for day in sorted(groups)]
        return DailyStatistics(**msgspec.structs.asdict(request.window_answer), days=days)

    def _summarize_day(self, request: StatisticsRequest, day: int, totals: GroupTotals) -> DaySummary:
        start, end = request.span
        begins = max(start, request.zone.midnight(day, totals.first_offset))
        ends = min(end, request.zone.midnight(day + 1, totals.last_offset))
        return summarize_day(day, totals, max(0, ends - begins), request.ranges)

    async def profile(self, request: StatisticsRequest, bin_minutes: int) -> Profile:
        """Return the percentiles of each bin of the local day, empty bins included."""
        length = bin_minutes * 60
        groups = await self._collect(request, lambda shown: (shown.second + shown.offset) % DAY_SECONDS // length)
        return summarize_profile(request.window_answer, bin_minutes, groups)

    async def series(self, request: StatisticsRequest, bins: Bins) -> Series:
        """Return every bin of the window, which has been widened to whole bins."""
        groups = await self._collect(request, lambda shown: bins.index(shown.second))
        return collect_series(request.user, bins, groups)

    async def _collect(
        self, request: StatisticsRequest, group_of: Callable[[ShownReading], Group]
    ) -> dict[Group, GroupTotals]:
        groups: WeightedGroups[Group] = WeightedGroups()
        readings = self._reader.readings(request.user, request.window, ReadingFilter(request.as_of))
        async with aclosing(readings):
            async for batch in readings:
                for second, stored in in_shown_order(batch):
                    shown = ShownReading(second, request.zone.offset(second, stored.reading.utc_offset_seconds), stored)
                    groups.add(group_of(shown), shown)
                await pause()
        return groups.finish()
