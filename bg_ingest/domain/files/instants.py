"""UTC instants of local times in a file, also in the hours that a clock change repeats or skips."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from itertools import pairwise
from typing import NamedTuple

import msgspec

_MAX_DRIFT = timedelta(minutes=2)
"""Largest drift between the local clock and the transmitter's clock from one row to the next. A larger step shows that
one of the clocks was set."""

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - subtracted from local times


class LocalTime(NamedTuple):
    """Time of one row. Rows of one series are of one transmitter and display."""

    wall: datetime
    ticks: int | None
    """Seconds of the transmitter's own clock, which no clock change affects."""
    series: tuple[str, str]


class Instant(NamedTuple):
    utc: datetime
    utc_offset_seconds: int
    uncertain: bool = False
    """The time is in the repeated hour, and the file does not show the pass. The first pass is assumed."""


class _Wall(NamedTuple):
    """Local time with the UTC offsets before and after a clock change; both are equal without a change at that time."""

    local: datetime
    before: timedelta
    after: timedelta
    ticks: int | None

    @property
    def is_repeated(self) -> bool:
        return self.before > self.after

    @property
    def is_skipped(self) -> bool:
        return self.before < self.after

    def to_instant(self, offset: timedelta, *, uncertain: bool = False) -> Instant:
        return Instant((self.local - offset).replace(tzinfo=UTC), int(offset.total_seconds()), uncertain)


def to_instants(times: Sequence[LocalTime], zone: tzinfo) -> list[Instant | None]:
    """Return the instant of each row; None for a skipped time without a usable clock of the transmitter.

    While the difference between the local clock and the transmitter's clock stays the same, neither was set. The rows
    then have one UTC offset, even past a clock change. For other rows the zone decides, and in the repeated hour the
    order of the rows.
    """
    by_series: defaultdict[tuple[str, str], dict[int, _Wall]] = defaultdict(dict)
    for index in _oldest_first([time.wall for time in times]):
        by_series[times[index].series][index] = _to_wall(times[index], zone)
    instants: list[Instant | None] = [None] * len(times)
    for walls in by_series.values():
        decided = _decide_by_transmitter(walls)
        decided |= _decide_by_order({index: wall for index, wall in walls.items() if index not in decided})
        for index, instant in decided.items():
            instants[index] = instant
    return instants


def _oldest_first(walls: Sequence[datetime]) -> Iterable[int]:
    """Return the indexes of the rows, reversed if the file begins with the newest."""
    backward = sum(later < earlier for earlier, later in pairwise(walls))
    return range(len(walls)) if backward <= len(walls) / 2 else reversed(range(len(walls)))


def _to_wall(time: LocalTime, zone: tzinfo) -> _Wall:
    before, after = (time.wall.replace(tzinfo=zone, fold=fold).utcoffset() or timedelta() for fold in (0, 1))
    return _Wall(time.wall, before, after, time.ticks)


class _Run(msgspec.Struct):
    """Rows during which neither the local clock nor that of the transmitter was set."""

    rows: list[tuple[int, _Wall]]
    first_start: datetime
    """Local time at which the transmitter's clock was zero, by the first row."""
    last_start: datetime
    """The same by the last row: the two clocks drift."""
    offset: timedelta | None = None


def _decide_by_transmitter(walls: Mapping[int, _Wall]) -> dict[int, Instant]:
    runs = _split_into_runs(walls)
    for run in runs:
        run.offset = _read_from_zone([wall for _, wall in run.rows])
    known = [run for run in runs if run.offset is not None]
    for run in runs:
        if run.offset is None:
            offsets = (_derive_offset(run, other) for other in known)
            run.offset = next((offset for offset in offsets if offset is not None), None)
    return {index: wall.to_instant(run.offset) for run in runs if run.offset is not None for index, wall in run.rows}


def _split_into_runs(walls: Mapping[int, _Wall]) -> list[_Run]:
    runs: list[_Run] = []
    newest: dict[int, _Run] = {}
    for index, wall in walls.items():
        if wall.ticks is None:
            continue
        start = wall.local - timedelta(seconds=wall.ticks)
        key = (start - _EPOCH) // _MAX_DRIFT
        run = newest.get(key) or newest.get(key - 1) or newest.get(key + 1)
        if run is None:
            run = _Run([], start, start)
            runs.append(run)
        run.rows.append((index, wall))
        run.last_start = start
        newest[key] = run
    return runs


def _read_from_zone(walls: Sequence[_Wall]) -> timedelta | None:
    """Return the offset of the earliest time that is not repeated; None if all times are repeated or skipped.

    A skipped time shows that the clock was not set at the change. The offset before the change still applies.
    """
    if not any(wall.before == wall.after for wall in walls):
        return None
    return min((wall for wall in walls if not wall.is_repeated), key=lambda wall: wall.local).before


def _derive_offset(run: _Run, other: _Run) -> timedelta | None:
    """Derive the offset of a run from another run of the same series, before or after it; None if they do not fit."""
    if other.offset is None:
        return None
    wall = run.rows[0][1]
    for step in (run.first_start - other.last_start, run.last_start - other.first_start):
        for offset in (wall.before, wall.after):
            if abs(other.offset + step - offset) <= _MAX_DRIFT:
                return offset
    return None


def _decide_by_order(walls: Mapping[int, _Wall]) -> dict[int, Instant]:
    """Return instants without the transmitter's clock: by the zone, for repeated times by the order of the rows.

    A skipped time has no instant.
    """
    repeated: defaultdict[date, dict[int, _Wall]] = defaultdict(dict)
    decided: dict[int, Instant] = {}
    for index, wall in walls.items():
        if wall.is_repeated:
            repeated[wall.local.date()][index] = wall
        elif not wall.is_skipped:
            decided[index] = wall.to_instant(wall.before)
    for hour in repeated.values():
        decided |= _decide_repeated_hour(hour)
    return decided


def _decide_repeated_hour(walls: Mapping[int, _Wall]) -> dict[int, Instant]:
    """Assign each time of a repeated hour to its first or second pass.

    The first step backward begins the second pass. Without such a step, a time that occurs twice is once in each pass.
    """
    locals_ = [wall.local for wall in walls.values()]
    counts = Counter(locals_)
    backward = next((index for index, (a, b) in enumerate(pairwise(locals_), 1) if b < a), None)
    decided: dict[int, Instant] = {}
    for position, (index, wall) in enumerate(walls.items()):
        if backward is not None:
            decided[index] = wall.to_instant(wall.after if position >= backward else wall.before)
        elif position and locals_[position - 1] == wall.local:
            decided[index] = wall.to_instant(wall.after)
        else:
            decided[index] = wall.to_instant(wall.before, uncertain=counts[wall.local] == 1)
    return decided
