"""UTC instants of local times in a file, also in the hours that a clock change repeats or skips."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from itertools import pairwise
from typing import NamedTuple

import msgspec

_MAX_DRIFT = timedelta(minutes=2)
"""Largest change of the difference between the local clock and the transmitter's clock from one row to the next, if
neither clock was set."""

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
    """The time is in the repeated hour, and nothing shows the pass. It is read as the first."""


class _Wall(NamedTuple):
    """Local time with its UTC offsets before and after a clock change; at other times they are equal."""

    local: datetime
    first: timedelta
    second: timedelta
    ticks: int | None

    @property
    def is_repeated(self) -> bool:
        return self.first > self.second

    @property
    def is_skipped(self) -> bool:
        return self.first < self.second

    def to_instant(self, offset: timedelta, *, uncertain: bool = False) -> Instant:
        return Instant((self.local - offset).replace(tzinfo=UTC), int(offset.total_seconds()), uncertain)


def to_instants(times: Sequence[LocalTime], zone: tzinfo) -> list[Instant | None]:
    """Return the instant of each row; None for a time that does not exist in the zone.

    Rows with a steady distance between local clock and transmitter have one UTC offset, even if the device was not set
    at a clock change. Without the transmitter's clock the zone decides, and in the repeated hour the order of rows.
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
    first, second = (time.wall.replace(tzinfo=zone, fold=fold).utcoffset() or timedelta() for fold in (0, 1))
    return _Wall(time.wall, first, second, time.ticks)


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
            beside = (_estimate_beside(run, other) for other in known)
            run.offset = next((offset for offset in beside if offset is not None), None)
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
    """Return the offset of the earliest time that is not repeated; None if no time of the run is certain.

    A skipped time shows a clock that was not set: its offset is that from before the change.
    """
    if not any(wall.first == wall.second for wall in walls):
        return None
    return min((wall for wall in walls if not wall.is_repeated), key=lambda wall: wall.local).first


def _estimate_beside(run: _Run, other: _Run) -> timedelta | None:
    """Return the offset of a run in the repeated hour, from a run of the same transmitter before or after it."""
    if other.offset is None:
        return None
    wall = run.rows[0][1]
    for steps in (run.first_start - other.last_start, run.last_start - other.first_start):
        for offset in (wall.first, wall.second):
            if abs(other.offset + steps - offset) <= _MAX_DRIFT:
                return offset
    return None


def _decide_by_order(walls: Mapping[int, _Wall]) -> dict[int, Instant]:
    """Decide without the transmitter's clock: times outside a change by the zone, repeated ones by their order."""
    repeated: defaultdict[date, dict[int, _Wall]] = defaultdict(dict)
    decided: dict[int, Instant] = {}
    for index, wall in walls.items():
        if wall.is_repeated:
            repeated[wall.local.date()][index] = wall
        elif not wall.is_skipped:
            decided[index] = wall.to_instant(wall.first)
    for hour in repeated.values():
        decided |= _decide_repeated_hour(hour)
    return decided


def _decide_repeated_hour(walls: Mapping[int, _Wall]) -> dict[int, Instant]:
    """Assign each time of a repeated hour to its first or second pass.

    The first step backward begins the second pass. Without such a step, a time that occurs twice is once in each pass.
    """
    locals_ = [wall.local for wall in walls.values()]
    backward = next((index for index, (a, b) in enumerate(pairwise(locals_), 1) if b < a), None)
    decided: dict[int, Instant] = {}
    for position, (index, wall) in enumerate(walls.items()):
        if backward is not None:
            decided[index] = wall.to_instant(wall.second if position >= backward else wall.first)
        elif position and locals_[position - 1] == wall.local:
            decided[index] = wall.to_instant(wall.second)
        else:
            decided[index] = wall.to_instant(wall.first, uncertain=locals_.count(wall.local) == 1)
    return decided
