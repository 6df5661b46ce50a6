"""What of the stored is shown: one reading per sensor and second, and of what was known at some point only that."""

from collections.abc import Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

import msgspec

from bg_ingest.domain.as_of import AsOf
from bg_ingest.domain.readings import StoredReading, display_rank, select_one_per_sensor
from bg_ingest.domain.segment_codec import decode, decode_commits, decode_points, to_epoch_seconds, unpack

_DISPLAY_INDEX = 3
"""The place of the display among a device's parts; what comes before it names the sensor."""


class ReadingFilter(msgspec.Struct, frozen=True):
    """Applied to each stored segment by itself: years take no more memory than hours."""

    as_of: AsOf | None = None
    all_devices: bool = False
    """Also what a second device told of the same second of a sensor."""

    def readings(self, packed: bytes) -> Sequence[StoredReading]:
        """Return the readings of a segment, ascending by time, then by device."""
        found = unpack(packed)
        if self.as_of is not None:
            found = tuple(known for each in found if (known := self.as_of.apply(each)))
        return found if self.all_devices else select_one_per_sensor(found)

    def points(self, packed: bytes) -> Sequence[tuple[int, int]]:
        """Return only (epoch seconds, mg/dL), ascending: what charts ask for, at a tenth of the cost."""
        parts = decode(packed)
        if self.as_of and not all(self.as_of.includes(at, change) for at, change in decode_commits(parts)):
            found = self.readings(packed)
            return [(to_epoch_seconds(each.reading.measured_at), each.reading.glucose_mg_dl) for each in found]
        by_device = decode_points(parts)
        if len(by_device) == 1:
            return by_device[0][1]
        rows = [rows for _, rows in by_device] if self.all_devices else _select_one_per_sensor(by_device)
        return sorted(chain.from_iterable(rows), key=itemgetter(0))


def _select_one_per_sensor(by_device: list[tuple[list[Any], list[tuple[int, int]]]]) -> list[list[tuple[int, int]]]:
    """Return each sensor's rows, every second once: as ``select_one_per_sensor`` does with whole readings."""
    by_sensor: dict[tuple[Any, ...], dict[int, int]] = {}
    for device, rows in sorted(by_device, key=_display_rank):
        shown = by_sensor.setdefault(tuple(device[:_DISPLAY_INDEX]), {})
        for second, value in rows:
            shown.setdefault(second, value)
    return [
        list(by_sensor[sensor].items()) for sensor in dict.fromkeys(tuple(d[:_DISPLAY_INDEX]) for d, _ in by_device)
    ]


def _display_rank(row: tuple[list[Any], object]) -> tuple[str, str]:
    display = row[0][_DISPLAY_INDEX]
    return display_rank(display if isinstance(display, str) else display.hex())
