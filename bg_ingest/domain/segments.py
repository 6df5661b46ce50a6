"""Six hours of readings, and what a batch makes of them: pure, so that a lost race is merged by deciding again."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import msgspec

from bg_ingest.domain.readings import Identity, Reading, StoredReading, Unreadable
from bg_ingest.domain.segment_codec import sort_readings, to_epoch_seconds

SEGMENT_HOURS = 6
"""A segment under 1 KB costs the least to rewrite: 72 readings of a 5-minute sensor are about 600 bytes."""

MAX_READINGS, MAX_SEGMENTS = 288, 8
"""What one commit may hold: far from DynamoDB's 100 items and 4 MB, small enough to lose a race cheaply."""

MAX_VERSIONS = 16
"""Earlier values a reading keeps; a provider that goes on revising it is not understood, see ``decide``."""

KnownSegments: TypeAlias = dict[datetime, "Segment"]
"""Segments as read, by their start."""


class Segment(msgspec.Struct, frozen=True):
    """One stored stretch of readings."""

    start: datetime
    change: int
    """The change of its last write: the condition of the next."""
    readings: tuple[StoredReading, ...]


class Decision(msgspec.Struct, frozen=True):
    """What a batch changes, given what was known."""

    segments: tuple[Segment, ...]
    """Those to be written, whole."""
    recorded: tuple[StoredReading, ...]
    revised: tuple[StoredReading, ...]
    duplicates: int
    rejected: tuple[Unreadable, ...]


def segment_start(instant: datetime) -> datetime:
    """Return the start of the segment an instant lies in: UTC, every six hours from midnight."""
    length = SEGMENT_HOURS * 3600
    return datetime.fromtimestamp(to_epoch_seconds(instant) // length * length, UTC)


def segment_starts(start: datetime, end: datetime) -> Iterator[datetime]:
    """Yield the starts of all segments that [start, end) touches."""
    at = segment_start(start)
    while at < end:
        yield at
        at += timedelta(hours=SEGMENT_HOURS)


def split_batch(readings: Iterable[Reading]) -> Iterator[list[Reading]]:
    """Split a batch, oldest first, into what single commits may hold; of one identity the last is kept."""
    unique = {each.identity: each for each in readings}
    part: list[Reading] = []
    touched: set[datetime] = set()
    for reading in sorted(unique.values(), key=lambda each: each.measured_at):
        touched.add(segment_start(reading.measured_at))
        if len(part) == MAX_READINGS or len(touched) > MAX_SEGMENTS:
            yield part
            part, touched = [], {segment_start(reading.measured_at)}
        part.append(reading)
    if part:
        yield part


def decide(known: KnownSegments, batch: Sequence[Reading], *, at: datetime, last_change: int) -> Decision:
    """Return what is new in the batch: new readings under the next change, revisions under the one after.

    The same value again changes nothing. Another one under the same identity is a revision, and the value it had
    stays with the reading.
    """
    before: dict[Identity, StoredReading] = {
        each.reading.identity: each for segment in known.values() for each in segment.readings
    }
    fresh = [each for each in batch if each.identity not in before]
    changed = [each for each in batch if (old := before.get(each.identity)) and not old.reading.same_value(each)]
    rejected = [each for each in changed if len(before[each.identity].earlier) >= MAX_VERSIONS]
    number = last_change + 1
    recorded = [StoredReading(each, at, number) for each in fresh]
    if recorded:
        number += 1
    revised = [
        StoredReading(_with_device_of(each, old), at, number, (*old.earlier, old.version))
        for each in changed
        if len((old := before[each.identity]).earlier) < MAX_VERSIONS
    ]
    return Decision(
        tuple(_rewrite_segments(known, [*recorded, *revised])),
        sort_readings(recorded),
        sort_readings(revised),
        len(batch) - len(fresh) - len(changed),
        tuple(Unreadable("too_many_revisions", msgspec.json.encode(each), each.measured_at) for each in rejected),
    )


def _rewrite_segments(known: KnownSegments, changed: list[StoredReading]) -> Iterator[Segment]:
    touched: dict[datetime, list[StoredReading]] = {}
    for each in changed:
        touched.setdefault(segment_start(each.reading.measured_at), []).append(each)
    for start, fresh in sorted(touched.items()):
        old = known[start].readings if start in known else ()
        merged = {each.reading.identity: each for each in (*old, *fresh)}
        yield Segment(start, max(each.change for each in fresh), sort_readings(merged.values()))


def _with_device_of(revised: Reading, old: StoredReading) -> Reading:
    """Keep what was first said of the device beyond its identity: only values have versions."""
    return msgspec.structs.replace(revised, device=old.reading.device)
