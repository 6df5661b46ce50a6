"""Upper estimate of the bytes of stored readings, because the items of a store have a limit (400 KB in DynamoDB)."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, islice

from msgspec.structs import astuple

from bg_ingest.domain.readings import Device, Reading, StoredReading
from bg_ingest.domain.segment_codec import pack

MAX_SEGMENT_BYTES = 300_000
"""Estimated size up to which readings are added to a segment. A usual segment has less than 1,000 bytes."""

MAX_COMMIT_BYTES = 200_000
"""Largest size of the readings of one commit, because its change is stored as one item."""

MAX_UNCHECKED = 180
"""Number of readings and earlier versions that always fit into a segment. Up to it, no size is estimated."""

BYTES_PER_READING = 64
"""Bytes of a reading without its texts, if each of its values differs from the values of neighbouring readings."""


def estimate_bytes(reading: Reading) -> int:
    """Return the bytes of a reading that shares nothing with others."""
    trend, unit = reading.trend or "", reading.sent.unit if reading.sent else ""
    return BYTES_PER_READING + _text_bytes(reading.device) + len(trend.encode()) + len(unit.encode())


@lru_cache(maxsize=256)
def _text_bytes(device: Device) -> int:
    return sum(len(text.encode()) for text in astuple(device) if text)


def count_fitting(stored: Sequence[StoredReading], added: Sequence[Reading]) -> int:
    """Return the number of added readings, counted from the first, that fit into the segment of the stored ones."""
    if len(added) + sum(1 + len(old.earlier) for old in stored) <= MAX_UNCHECKED:
        return len(added)
    sizes = accumulate(map(estimate_bytes, added), initial=len(pack(stored)))
    return sum(size <= MAX_SEGMENT_BYTES for size in islice(sizes, 1, None))
