"""Choice of the readings that are shown: one series per sensor, although several displays may report it.

Stored readings are never merged. The choice rests on times, values and names alone, so that the same readings are shown
in any order of arrival.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from heapq import merge
from itertools import pairwise
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple, TypeVar

from bg_ingest.domain.readings import Device, Reading, Sensor, StoredReading
from bg_ingest.domain.segment_codec import device_key, to_epoch_seconds

DISPLAY_SECONDS = 150
"""Distance up to which a reading of another display of the same sensor is the same measurement: half a cadence."""

REPEAT_SECONDS = 30
"""Distance up to which an equal value of the same display is the same measurement, sent again with another time."""

CONTEXT_SECONDS = 2 * DISPLAY_SECONDS
"""Readings up to this long before and after a part of a series influence the choice within the part."""

Item = TypeVar("Item")
Row = tuple[Any, ...]
_second: Callable[[Row], int] = itemgetter(0)


class Stream(NamedTuple):
    """Rows of one device, ascending; each begins with epoch second and value. ``rank`` orders displays of a sensor."""

    sensor: Sensor
    rank: tuple[str, str]
    rows: Sequence[Row]


class SegmentRows(NamedTuple):
    """Rows of one part of a user's series, by device."""

    streams: Sequence[Stream]
    closest: int | None
    """Lower bound on the distance of two rows, in seconds. None if there are several devices."""


def choose_rows(before: SegmentRows | None, segment: SegmentRows, after: SegmentRows | None) -> Sequence[Row]:
    """Return the shown rows of a segment, ascending. The choice at both of its ends depends on the neighbours."""
    if not segment.streams:
        return ()
    if _is_plain(before, segment, after):
        return segment.streams[0].rows
    first = min(stream.rows[0][0] for stream in segment.streams)
    last = max(stream.rows[-1][0] for stream in segment.streams)
    bounds = first - CONTEXT_SECONDS, last + CONTEXT_SECONDS
    streams = [
        Stream(sensor, rank, rows[_index(rows, bounds[0]) : _index(rows, bounds[1] + 1)])
        for part in (before, segment, after)
        if part
        for sensor, rank, rows in part.streams
    ]
    return [row for row in _choose(streams) if first <= row[0] <= last]


def select_shown(items: Sequence[Item], reading_of: Callable[[Item], Reading]) -> list[Item]:
    """Return the shown items of a whole series (ascending), in the same order."""
    return [row[2] for row in _choose(split_displays(items, reading_of))]


def newest_shown(readings: Iterable[StoredReading]) -> StoredReading | None:
    """Return the newest shown reading.

    If several are in the newest second, display and sensor decide; among equal ones, the first is returned.
    """
    candidates = list(readings)
    newest = max((stored.reading.measured_at for stored in candidates), default=None)
    if newest is None:
        return None
    since = newest - timedelta(seconds=2 * CONTEXT_SECONDS)
    recent = [stored for stored in candidates if stored.reading.measured_at >= since]
    shown = select_shown(recent, attrgetter("reading"))
    last = shown[-1].reading.measured_at
    return min((stored for stored in shown if stored.reading.measured_at == last), key=_rank_and_sensor)


def _rank_and_sensor(stored: StoredReading) -> tuple[str, ...]:
    device = stored.reading.device
    return (*device.display_rank, *(part or "" for part in device.sensor))


def split_displays(items: Sequence[Item], reading_of: Callable[[Item], Reading]) -> list[Stream]:
    """Return rows of second, value and item, by device; devices are in the order of ``sort_readings``."""
    streams: dict[int, tuple[Device, list[Row]]] = {}
    for item in items:
        reading = reading_of(item)
        _, rows = streams.setdefault(id(reading.device), (reading.device, []))
        rows.append((to_epoch_seconds(reading.measured_at), reading.glucose_mg_dl, item))
    ordered = sorted(streams.values(), key=lambda stream: device_key(stream[0]))
    return [Stream(device.sensor, device.display_rank, rows) for device, rows in ordered]


def closest_rows(streams: Sequence[Stream]) -> int | None:
    """Return the value of ``SegmentRows.closest``."""
    if len(streams) > 1:
        return None
    return min((later[0] - earlier[0] for stream in streams for earlier, later in pairwise(stream.rows)), default=3600)


def _is_plain(*parts: SegmentRows | None) -> bool:
    """Return True if all rows are of one display and more than ``REPEAT_SECONDS`` apart, as in nearly every read."""
    earlier: Stream | None = None
    for part in parts:
        if part is None:
            continue
        if part.closest is None or part.closest <= REPEAT_SECONDS:
            return False
        for stream in part.streams:  # at most one, because ``closest`` is known
            if earlier is not None and (
                earlier.sensor != stream.sensor
                or earlier.rank != stream.rank
                or stream.rows[0][0] - earlier.rows[-1][0] <= REPEAT_SECONDS
            ):
                return False
            earlier = stream
    return True


def _choose(streams: Iterable[Stream]) -> list[Row]:
    """Return the shown rows of all sensors, ascending; rows of one second in the order of their sensors."""
    sensors: dict[Sensor, list[Stream]] = {}
    for stream in streams:
        sensors.setdefault(stream.sensor, []).append(stream)
    ordered = sorted(sensors.items(), key=lambda row: [part or "" for part in row[0]])
    shown = [_choose_of_sensor(displays) for _, displays in ordered]
    return shown[0] if len(shown) == 1 else list(merge(*shown, key=_second))


def _choose_of_sensor(streams: list[Stream]) -> list[Row]:
    """Return the rows of the display with the smallest rank, and measurements that only further displays have."""
    displays: dict[tuple[str, str], list[Row]] = {}
    for stream in streams:
        displays.setdefault(stream.rank, []).extend(stream.rows)
    shown: list[Row] = []
    for rank in sorted(displays):
        rows = _without_repeats(sorted(displays[rank], key=_second))
        if not shown:
            shown = rows
            continue
        seconds = [row[0] for row in shown]
        added = [row for row in rows if not _is_near(seconds, row[0])]
        shown = list(merge(shown, added, key=_second))
    return shown


def _without_repeats(rows: list[Row]) -> list[Row]:
    """Drop a value that equals one shown up to ``REPEAT_SECONDS`` before, and further values of the same second."""
    shown: list[Row] = []
    for row in rows:
        if not shown or row[0] - shown[-1][0] > REPEAT_SECONDS:
            shown.append(row)
            continue
        recent = range(_index(shown, row[0] - REPEAT_SECONDS), len(shown))
        if not any(shown[index][0] == row[0] or shown[index][1] == row[1] for index in recent):
            shown.append(row)
    return shown


def _is_near(seconds: list[int], second: int) -> bool:
    index = bisect_left(seconds, second - DISPLAY_SECONDS)
    return index < len(seconds) and seconds[index] <= second + DISPLAY_SECONDS


def _index(rows: Sequence[Row], second: int) -> int:
    """Return the index of the first row that is not before a second."""
    return bisect_left(rows, second, key=_second)
