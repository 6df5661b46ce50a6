"""Selection of stored readings: one series per sensor, and optionally as of an earlier change or time."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import chain
from operator import attrgetter, itemgetter

import msgspec

from bg_ingest.domain.merging import Row, SegmentRows, Stream, choose_rows, closest_rows, split_displays
from bg_ingest.domain.point_columns import decode_points
from bg_ingest.domain.reading_versions import iter_versions
from bg_ingest.domain.readings import StoredReading
from bg_ingest.domain.segment_codec import decode, decode_commits, unpack

FINAL_AFTER = timedelta(minutes=1)
"""Once this time has passed after an instant, no further change belongs to the answer as of the instant. The minute is
longer than the sum of three times: the rest of the included second (see ``AsOf.at``), the time from the choice of
``recorded_at`` until the commit is visible, and the difference between the clocks of replicas."""


class AsOf(msgspec.Struct, frozen=True):
    """Last change included, given by number or by time. Both put the changes of a user in the same order."""

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


class ReadingFilter(msgspec.Struct, frozen=True):
    """Filter of one stored segment at a time, so that years take no more memory than hours."""

    as_of: AsOf | None = None
    all_devices: bool = False
    """Include the readings of all display devices of a sensor, not only of one. Also include values that a display sent
    again with another time."""

    def select(self, before: SegmentRows | None, segment: SegmentRows, after: SegmentRows | None) -> Sequence[Row]:
        """Return the shown rows of a segment.

        The caller has decoded the segment and its neighbours with one of the methods below.
        """
        if not self.all_devices:
            return choose_rows(before, segment, after)
        return sorted(chain.from_iterable(stream.rows for stream in segment.streams), key=itemgetter(0))

    def decode_readings(self, packed: bytes) -> SegmentRows:
        """Return rows of second, value and ``StoredReading``."""
        stored = unpack(packed)
        if self.as_of is not None:
            stored = tuple(known for recorded in stored if (known := self.as_of.apply(recorded)))
        streams = split_displays(stored, attrgetter("reading"))
        return SegmentRows(streams, closest_rows(streams))

    def decode_versions(self, packed: bytes) -> SegmentRows:
        """Return rows of second, value and ``ReadingVersion``; those of one reading follow each other, oldest first.

        Needs ``all_devices``, because the choice among displays compares only one value per reading.
        """
        segment = self.decode_readings(packed)
        streams = [
            stream._replace(
                rows=[
                    (second, version.stored.reading.glucose_mg_dl, version)
                    for second, _, stored in stream.rows
                    for version in iter_versions(stored)
                ]
            )
            for stream in segment.streams
        ]
        return SegmentRows(streams, segment.closest)

    def decode_points(self, packed: bytes) -> SegmentRows:
        """Return rows of second and value only."""
        if self.as_of and not all(self.as_of.includes(at, change) for at, change in decode_commits(decode(packed))):
            segment = self.decode_readings(packed)
            streams = [stream._replace(rows=[row[:2] for row in stream.rows]) for stream in segment.streams]
            return SegmentRows(streams, segment.closest)
        points = decode_points(packed)
        streams = [Stream(device.sensor, device.display_rank, columns) for device, columns, _ in points]
        return SegmentRows(streams, points[0].closest if len(points) == 1 else None)
