"""How complete each day of a connection is: what a sensor of its cadence would have shown, and what we have of it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta

import msgspec

from bg_ingest.domain.gap_detection import learn_cadences
from bg_ingest.domain.gaps import Cause, Gap
from bg_ingest.domain.readings import StoredReading
from bg_ingest.domain.windows import Window


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """One UTC day, or the part of it that was asked for. Two displays of one sensor count once."""

    date: date
    provider: str
    expected: int
    """By the sensor's own cadence: what is stored and what is missing, nothing before the first reading."""
    stored: int
    late: int
    """Of the stored, those that were overdue when they came."""
    revised: int
    quarantined: int
    """Records of that time that could not be read, set aside."""
    missing: Mapping[Cause, int]


class Punctuality(msgspec.Struct, frozen=True):
    """When a reading comes in time."""

    since: datetime
    """What was measured earlier was read as the past: it cannot have come late."""
    max_delay: timedelta
    """Of its measurement."""

    def is_late(self, recorded: StoredReading) -> bool:
        first_recorded_at = recorded.earlier[0].recorded_at if recorded.earlier else recorded.recorded_at
        measured_at = recorded.reading.measured_at
        return measured_at >= self.since and first_recorded_at - measured_at > self.max_delay


class DayCounter:
    """Counts a connection's days while its readings pass by."""

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
        """Count some of the connection's readings, ascending, later than those before."""
        if not readings:
            return
        apart = timedelta(
            seconds=min(learn_cadences([each.reading for each in readings], self._default_cadence).values()) / 2
        )
        for each in readings:
            at = each.reading.measured_at
            if self._last is not None and at - self._last < apart:
                continue  # of another display, or of another sensor worn at the same time
            self._last = at
            if at in self._window:
                self._stored[at.date()] += 1
                self._late[at.date()] += self._punctuality.is_late(each)
                self._revised[at.date()] += bool(each.earlier)

    def add_quarantined(self, at: datetime, records: int) -> None:
        self._quarantined[at.date()] += records

    def add_gaps(self, gaps: Iterable[Gap], until: datetime) -> None:
        """Count what open gaps miss; of a silence what was expected by an instant."""
        for gap in gaps:
            for at in _missing_times(gap, until):
                if at in self._window:
                    self._missing.setdefault(at.date(), Counter())[gap.cause] += 1

    def days(self) -> Iterator[Day]:
        """Yield every day of which anything is known, ascending."""
        for each in sorted({*self._stored, *self._quarantined, *self._missing}):
            missing = self._missing.get(each, Counter())
            yield Day(
                date=each,
                provider=self._provider,
                expected=self._stored[each] + missing.total(),
                stored=self._stored[each],
                late=self._late[each],
                revised=self._revised[each],
                quarantined=self._quarantined[each],
                missing=dict(missing),
            )


def _missing_times(gap: Gap, until: datetime) -> Iterator[datetime]:
    at, number = gap.start, gap.missing
    while number is None or number > 0:
        if number is None and at > until:
            return
        yield at
        at += timedelta(seconds=gap.cadence_seconds)
        number = None if number is None else number - 1
