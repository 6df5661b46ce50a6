"""Segments of six hours, and the merge of a batch into them.

The merge is pure, so that it can be repeated after a lost race.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import TypeAlias

import msgspec
from msgspec.structs import replace

from bg_ingest.domain.readings import Identity, Reading, StoredReading, Unreadable
from bg_ingest.domain.segment_codec import sort_readings, to_epoch_seconds
from bg_ingest.domain.segment_size import MAX_COMMIT_BYTES, count_fitting, estimate_bytes

SEGMENT_HOURS = 6
"""A segment under 1 KB costs the least to rewrite: 72 readings of a 5-minute sensor are about 600 bytes."""

_SEGMENT_SECONDS = SEGMENT_HOURS * 3600

MAX_READINGS_PER_COMMIT, MAX_SEGMENTS_PER_COMMIT = 288, 8
"""Bounds of one commit: far below DynamoDB's 100 items and 4 MB, and small enough to repeat cheaply after a lost
race."""

MAX_VERSIONS = 16
"""Bound on the earlier values of a reading. More revisions have no known reason and are rejected: see ``decide``."""

KnownSegments: TypeAlias = dict[datetime, "Segment"]
"""Segments as read, by start."""


class Segment(msgspec.Struct, frozen=True):
    start: datetime
    change: int
    """Number of the change that last wrote the segment. A write requires the stored number to be as read."""
    readings: tuple[StoredReading, ...]


class Decision(msgspec.Struct, frozen=True):
    """Effect of a batch on the known segments."""

    segments: tuple[Segment, ...]
    """Segments to write, each complete."""
    recorded: tuple[StoredReading, ...]
    revised: tuple[StoredReading, ...]
    duplicates: int
    rejected: tuple[Unreadable, ...]


def segment_start(instant: datetime) -> datetime:
    """Return the start of the segment that contains an instant: UTC, every six hours from midnight."""
    return datetime.fromtimestamp(_segment_number(instant) * _SEGMENT_SECONDS, UTC)


def segment_starts(readings: Iterable[Reading]) -> set[datetime]:
    """Return the starts of all segments that contain one of the readings."""
    numbers = {_segment_number(reading.measured_at) for reading in readings}
    return {datetime.fromtimestamp(number * _SEGMENT_SECONDS, UTC) for number in numbers}


def _segment_number(instant: datetime) -> int:
    return to_epoch_seconds(instant) // _SEGMENT_SECONDS


def split_batch(readings: Iterable[Reading]) -> Iterator[list[Reading]]:
    """Split a batch into one part per commit, oldest first. Of readings with the same identity the last is kept."""
    unique = {reading.identity: reading for reading in readings}
    part: list[Reading] = []
    size, segments, segment_end = 0, 0, None
    for reading in sorted(unique.values(), key=attrgetter("measured_at")):
        if segment_end is None or reading.measured_at >= segment_end:
            segments += 1
            segment_end = segment_start(reading.measured_at) + timedelta(hours=SEGMENT_HOURS)
        size += estimate_bytes(reading)
        is_full = len(part) == MAX_READINGS_PER_COMMIT or segments > MAX_SEGMENTS_PER_COMMIT
        if is_full or (part and size > MAX_COMMIT_BYTES):
            yield part
            part, size, segments = [], estimate_bytes(reading), 1
        part.append(reading)
    if part:
        yield part


def decide(
    known: KnownSegments,
    batch: Sequence[Reading],
    *,
    at: datetime,
    last_change: int,
    base: KnownSegments | None = None,
) -> Decision:
    """Merge a batch. New readings share one change number, and revisions the next one.

    An equal value changes nothing. Another value under the same identity is a revision, and the earlier value stays
    with the reading. A revision is rejected if the reading already has ``MAX_VERSIONS`` earlier values, and any reading
    if its segment has no room. Rejected readings are then quarantined.

    ``base`` has segments of an earlier read. A value that it already has is a duplicate, even if another writer has
    revised the reading since.
    """
    before = _by_identity(known)
    at_base = {} if base is None or base is known else _by_identity(base)
    stored = [(reading, before.get(reading.identity)) for reading in batch]
    fresh = [reading for reading, old in stored if old is None]
    changed = [
        (reading, old)
        for reading, old in stored
        if old is not None and not old.reading.same_value(reading)
        if reading.identity not in at_base or not at_base[reading.identity].reading.same_value(reading)
    ]
    duplicates = len(batch) - len(fresh) - len(changed)
    unrevisable = [reading for reading, old in changed if len(old.earlier) >= MAX_VERSIONS]
    changed = [(reading, old) for reading, old in changed if len(old.earlier) < MAX_VERSIONS]
    no_room = _select_without_room(known, [*fresh, *(reading for reading, _ in changed)])
    if no_room:
        left_out = {reading.identity for reading in no_room}
        fresh = [reading for reading in fresh if reading.identity not in left_out]
        changed = [(reading, old) for reading, old in changed if reading.identity not in left_out]
    number = last_change + 1
    recorded = [StoredReading(reading, at, number) for reading in fresh]
    if recorded:
        number += 1
    revised = [  # with the device as first recorded, because a version has no device
        StoredReading(replace(reading, device=old.reading.device), at, number, (*old.earlier, old.version))
        for reading, old in changed
    ]
    rejected = [
        Unreadable(reason, msgspec.json.encode(reading), reading.measured_at)
        for reason, readings in (("too_many_revisions", unrevisable), ("segment_full", no_room))
        for reading in readings
    ]
    return Decision(
        tuple(_rewrite_segments(known, [*recorded, *revised])),
        sort_readings(recorded),
        sort_readings(revised),
        duplicates,
        tuple(rejected),
    )


def _by_identity(segments: KnownSegments) -> dict[Identity, StoredReading]:
    found: dict[Identity, StoredReading] = {}
    for segment in segments.values():
        # until 2026-11-30 a reading received by two apps was stored twice; both copies have one identity
        for stored in segment.readings:
            found.setdefault(stored.reading.identity, stored)
    return found


def _select_without_room(known: KnownSegments, readings: Sequence[Reading]) -> list[Reading]:
    """Return the readings for which their segments have no room."""
    by_segment: dict[datetime, list[Reading]] = {}
    for reading in readings:
        by_segment.setdefault(segment_start(reading.measured_at), []).append(reading)
    no_room: list[Reading] = []
    for start, added in by_segment.items():
        stored = known[start].readings if start in known else ()
        no_room += added[count_fitting(stored, added) :]
    return no_room


def _rewrite_segments(known: KnownSegments, changed: list[StoredReading]) -> Iterator[Segment]:
    touched: dict[datetime, list[StoredReading]] = {}
    for stored in changed:
        touched.setdefault(segment_start(stored.reading.measured_at), []).append(stored)
    for start, fresh in sorted(touched.items()):
        old = known[start].readings if start in known else ()
        merged = {(stored.reading.device, stored.reading.measured_at): stored for stored in (*old, *fresh)}
        yield Segment(start, max(stored.change for stored in fresh), sort_readings(merged.values()))
