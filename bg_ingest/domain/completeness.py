"""Completeness of a connection's days: readings expected by the sensor's cadence, and readings stored."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta

import msgspec

from bg_ingest.domain.gap_detection import learn_cadences
from bg_ingest.domain.gaps import Cause, Gap
from bg_ingest.domain.readings import StoredReading
from bg_ingest.domain.windows import Window


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """One UTC day, or the requested part of it. A reading on two displays of one sensor counts once."""

    date: date
    provider: str
    expected: int
    """Stored plus missing readings at the sensor's own cadence. No reading is expected before the first one."""
    stored: int
    late: int
    """Stored readings that were overdue on arrival."""
    revised: int
    quarantined: int
    """Unreadable records with a time on this day."""
    missing: Mapping[Cause, int]


class Punctuality(msgspec.Struct, frozen=True):
    """Limits beyond which a reading counts as late."""

    since: datetime
    """Measurements before this instant came by a backfill and cannot be late."""
    max_delay: timedelta
    """Longest time from the measurement to the first commit of a reading that is not late."""

    def is_late(self, recorded: StoredReading) -> bool:
        first_recorded_at = recorded.earlier[0].recorded_at if recorded.earlier else recorded.recorded_at
        measured_at = recorded.reading.measured_at
        return measured_at >= self.since and first_recorded_at - measured_at > self.max_delay


class DayCounter:
    """Counts the readings, quarantined records and missing readings of one connection by day."""

    def __init__(self, provider: str, window: Window, punctuality: Punctuality, default_cadence: int) -> None:
        self._provider = provider
        self._window = window
        self._punctuality = punctuality
        self._default_cadence = default_cadence
        self._stored = Counter[date]()
        self._late = Counter[date]()
        self._revised = Counter[date]()
        self._quarantined = Counter[date]()
        self._missing: dict[date, Counter[Cause]] = {}
        self._last: datetime | None = None

    def add_readings(self, readings: Sequence[StoredReading]) -> None:
        """Count the next part of the connection's readings: ascending, and later than the parts counted before."""
        if not readings:
            return
        cadences = learn_cadences([recorded.reading for recorded in readings], self._default_cadence)
        min_distance = timedelta(seconds=min(cadences.values()) / 2)
        for recorded in readings:
            at = recorded.reading.measured_at
            if self._last is not None and at - self._last < min_distance:
                continue  # another display, or another sensor worn at the same time
            self._last = at
            if at in self._window:
                self._stored[at.date()] += 1
                self._late[at.date()] += self._punctuality.is_late(recorded)
                self._revised[at.date()] += bool(recorded.earlier)

    def add_quarantined(self, at: datetime, records: int) -> None:
        self._quarantined[at.date()] += records

    def add_gaps(self, gaps: Iterable[Gap], until: datetime) -> None:
        """Count the readings missing in open gaps; for a silence, those expected by ``until``."""
        for gap in gaps:
            for day, missing in _missing_by_day(gap, self._window, until):
                self._missing.setdefault(day, Counter())[gap.cause] += missing

    def days(self) -> Iterator[Day]:
        """Yield every day with a reading, a quarantined record or a gap, ascending."""
        for day in sorted({*self._stored, *self._quarantined, *self._missing}):
            missing = self._missing.get(day, Counter())
            yield Day(
                date=day,
                provider=self._provider,
                expected=self._stored[day] + missing.total(),
                stored=self._stored[day],
                late=self._late[day],
                revised=self._revised[day],
                quarantined=self._quarantined[day],
                missing=dict(missing),
            )


def _missing_by_day(gap: Gap, window: Window, until: datetime) -> Iterator[tuple[date, int]]:
    """Yield the days of the window with their numbers of missing readings. The cost grows with the days only."""
    cadence = timedelta(seconds=gap.cadence_seconds)
    last = until if gap.missing is None else gap.start + (gap.missing - 1) * cadence
    start, end = max(gap.start, window.start), min(last + datetime.resolution, window.end)
    while start < end:
        midnight = datetime.combine(start.date(), time(), start.tzinfo) + timedelta(days=1)
        stop = min(midnight, end)
        missing = (gap.start - start) // cadence - (gap.start - stop) // cadence
        if missing:
            yield start.date(), missing
        start = stop
