"""Selection of stored readings: one per sensor and second, and optionally as of an earlier change or time."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import chain
from operator import itemgetter
from typing import Any

import msgspec

from bg_ingest.domain.readings import StoredReading, display_rank, select_one_per_sensor
from bg_ingest.domain.segment_codec import decode, decode_commits, decode_points, to_epoch_seconds, unpack

SETTLED_AFTER = timedelta(minutes=1)
"""Bound on the time from the choice of ``recorded_at`` until the commit is visible, plus the clock differences of
replicas. Until this time has passed, the answer as of an instant may still grow."""


class AsOf(msgspec.Struct, frozen=True):
    """Last change included, given by number or by time: the changes of a user rise in both together."""

    change: int | None = None
    """Number of the last change, exact."""
    before: datetime | None = None
    """Exclusive bound. ``recorded_at`` is shown in whole seconds, and all of the shown second is included: see
    ``at``."""

    @classmethod
    def at(cls, instant: datetime) -> "AsOf":
        """Return the point at the end of the second that contains an instant."""
        return cls(before=instant.replace(microsecond=0) + timedelta(seconds=1))

    def includes(self, recorded_at: datetime, change: int) -> bool:
        return (self.change is None or change <= self.change) and (self.before is None or recorded_at < self.before)

    def apply(self, recorded: StoredReading) -> StoredReading | None:
        """Return a reading with its value at this point; None if the reading was recorded later."""
        if self.includes(recorded.recorded_at, recorded.change):
            return recorded
        known = (n for n, version in enumerate(recorded.earlier) if self.includes(version.recorded_at, version.change))
        index = max(known, default=None)
        return None if index is None else recorded.at_version(index)


_DISPLAY_INDEX = 3
"""Index of the display among the fields of a device; the fields before it identify the sensor."""


class ReadingFilter(msgspec.Struct, frozen=True):
    """Filter of one stored segment at a time, so that years take no more memory than hours."""

    as_of: AsOf | None = None
    all_devices: bool = False
    """Include readings of a second display for the same sensor and second."""

    def readings(self, packed: bytes) -> Sequence[StoredReading]:
        """Return the readings of a segment, ascending by time, then by device."""
        stored = unpack(packed)
        if self.as_of is not None:
            stored = tuple(known for recorded in stored if (known := self.as_of.apply(recorded)))
        return stored if self.all_devices else select_one_per_sensor(stored)

    def points(self, packed: bytes) -> Sequence[tuple[int, int]]:
        """Return only (epoch seconds, mg/dL), ascending, for charts. The cost is a tenth of that of whole readings."""
        parts = decode(packed)
        if self.as_of and not all(self.as_of.includes(at, change) for at, change in decode_commits(parts)):
            readings = [stored.reading for stored in self.readings(packed)]
            return [(to_epoch_seconds(reading.measured_at), reading.glucose_mg_dl) for reading in readings]
        by_device = decode_points(parts)
        if len(by_device) == 1:
            return by_device[0][1]
        rows = [rows for _, rows in by_device] if self.all_devices else _select_one_per_sensor(by_device)
        return sorted(chain.from_iterable(rows), key=itemgetter(0))


def _select_one_per_sensor(by_device: list[tuple[list[Any], list[tuple[int, int]]]]) -> list[list[tuple[int, int]]]:
    """Return each sensor's points, one per second, by the rule of ``select_one_per_sensor``."""
    by_sensor: dict[tuple[Any, ...], dict[int, int]] = {}
    for device, rows in sorted(by_device, key=_display_rank):
        shown = by_sensor.setdefault(tuple(device[:_DISPLAY_INDEX]), {})
        for second, value in rows:
            shown.setdefault(second, value)
    sensors = dict.fromkeys(tuple(device[:_DISPLAY_INDEX]) for device, _ in by_device)
    return [list(by_sensor[sensor].items()) for sensor in sensors]


def _display_rank(row: tuple[list[Any], object]) -> tuple[str, str]:
    display = row[0][_DISPLAY_INDEX]
    return display_rank(display if isinstance(display, str) else display.hex())
