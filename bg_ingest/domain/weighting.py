"""Weights of shown readings: the seconds that each one represents.

A reading represents the time to the next shown reading, at most the cadence of its own device; the last one
represents one cadence. Overlapping sensors therefore share the time, and an outage counts as one cadence.
"""

from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

import msgspec

from bg_ingest.domain.histogram import Histogram
from bg_ingest.domain.readings import Device, Flag, StoredReading
from bg_ingest.domain.schedule import CADENCE_SECONDS, CadenceCounter
from bg_ingest.domain.segment_codec import to_epoch_seconds

DEFAULT_CADENCE_SECONDS = 300
"""Cadence of a device with too few readings to learn its own."""

Group = TypeVar("Group")


class GroupTotals(msgspec.Struct):
    """Sums of the readings of one group: a window, a day, or a bin of a profile or a series."""

    histogram: Histogram = msgspec.field(default_factory=Histogram)
    low: int = 0
    """Number of LOW readings."""
    high: int = 0
    first: int | None = None
    """Epoch second of the first reading."""
    last: int | None = None
    first_offset: int = 0
    """Offset from UTC of the first reading, in seconds."""
    last_offset: int = 0
    change: int | None = None
    """Largest change number of the readings."""
    days: set[int] = msgspec.field(default_factory=set)
    """Local days of the readings, counted since the epoch."""


class ShownReading(msgspec.Struct, frozen=True):
    """Reading with the facts that determine its group: epoch second, and offset from UTC in seconds."""

    second: int
    offset: int
    stored: StoredReading


class WeightedGroups(Generic[Group]):
    """Collects ascending readings in groups, and weighs them in one pass.

    The cadence of a device is known only at the end. Therefore each histogram is kept once for each possible
    cadence, and the right one is chosen at the end.
    """

    def __init__(self) -> None:
        self._histograms: dict[tuple[Group, Device], tuple[Histogram, ...]] = {}
        self._totals: dict[Group, GroupTotals] = {}
        self._cadences: dict[Device, CadenceCounter] = {}
        self._pending: tuple[int, int, tuple[Histogram, ...]] | None = None

    def add(self, group: Group, shown: ShownReading) -> None:
        """Add the next reading. Readings are added in the order of ``in_shown_order``."""
        reading = shown.stored.reading
        self._weigh_pending(shown.second)
        self._add_to_totals(group, shown)
        key = (group, reading.device)
        histograms = self._histograms.get(key)
        if histograms is None:
            histograms = self._histograms[key] = tuple(Histogram() for _ in CADENCE_SECONDS)
            self._cadences.setdefault(reading.device, CadenceCounter())
        self._cadences[reading.device].add(shown.second)
        self._pending = (shown.second, reading.glucose_mg_dl, histograms)

    def finish(self) -> dict[Group, GroupTotals]:
        """Return the totals of each group in the order of their first readings. No reading may follow."""
        self._weigh_pending(None)
        self._pending = None
        for (group, device), histograms in self._histograms.items():
            cadence = self._cadences[device].cadence() or DEFAULT_CADENCE_SECONDS
            self._totals[group].histogram.merge(histograms[CADENCE_SECONDS.index(cadence)])
        return self._totals

    def _weigh_pending(self, next_second: int | None) -> None:
        if self._pending is None:
            return
        second, value, histograms = self._pending
        for cadence, histogram in zip(CADENCE_SECONDS, histograms, strict=True):
            histogram.add(value, cadence if next_second is None else min(next_second - second, cadence))

    def _add_to_totals(self, group: Group, shown: ShownReading) -> None:
        totals = self._totals.get(group)
        if totals is None:
            totals = self._totals[group] = GroupTotals(
                first=shown.second, first_offset=shown.offset, change=shown.stored.change
            )
        totals.last, totals.last_offset = shown.second, shown.offset
        totals.change = max(totals.change or 0, shown.stored.change)
        totals.low += shown.stored.reading.flag is Flag.LOW
        totals.high += shown.stored.reading.flag is Flag.HIGH
        totals.days.add((shown.second + shown.offset) // 86_400)


def in_shown_order(batch: Sequence[StoredReading]) -> Iterator[tuple[int, StoredReading]]:
    """Yield (epoch second, reading), ascending; in one second by sensor name (no name last), then by display."""
    rows = [(to_epoch_seconds(stored.reading.measured_at), stored) for stored in batch]
    return iter(sorted(rows, key=_order))


def _order(row: tuple[int, StoredReading]) -> tuple[int, bool, str, str]:
    second, stored = row
    name = stored.reading.device.sensor_name
    return second, name is None, name or "", stored.reading.device.display
