"""LRU cache of the decoded points and the encoded text of stored segments.

It is keyed by the packed bytes of the segments, and bounded by an estimate of its memory. Points and text depend on
these bytes alone, and a rewritten segment has other bytes. A kept segment therefore never becomes stale and needs no
invalidation. Segments of an erased user stay in memory until other segments displace them.
"""

from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta

from bg_ingest.domain.merging import SegmentRows
from bg_ingest.domain.windows import Window

MAX_KEPT_BYTES = 24_000_000
"""About 2,200 segments of a 5-minute sensor: a day of 550 users, or 90 days of 6 users."""

MAX_KEPT_WINDOW = timedelta(days=100)
"""Segments of longer windows are not kept: one export of years would displace the days of all dashboards."""

BYTES_PER_ROW, BYTES_PER_SEGMENT = 130, 600
"""Estimate of the memory: a row is two numbers (70 bytes) and about 60 bytes of text."""


class KeptSegments:
    """LRU cache of decoded segments by their packed bytes, bounded by an estimate of its memory."""

    def __init__(self, decode: Callable[[bytes], SegmentRows], max_bytes: int = MAX_KEPT_BYTES) -> None:
        self._decode_uncached = decode
        self._max_bytes = max_bytes
        self._segments: OrderedDict[bytes, tuple[SegmentRows, int]] = OrderedDict()
        """Decoded segment and estimate of its memory in bytes, by packed content."""
        self.bytes = 0
        """Estimate of the memory in use."""

    def decoder(self, window: Window) -> Callable[[bytes], SegmentRows]:
        """Return the caching decoder, or the plain one for a window longer than MAX_KEPT_WINDOW."""
        return self.decode if window.length <= MAX_KEPT_WINDOW else self._decode_uncached

    def decode(self, packed: bytes) -> SegmentRows:
        """Return the points of a segment by device. They must not be changed."""
        kept = self._segments.get(packed)
        if kept is not None:
            self._segments.move_to_end(packed)
            return kept[0]
        segment = self._decode_uncached(packed)
        size = _memory(packed, segment)
        self._segments[packed] = segment, size
        self.bytes += size
        while self.bytes > self._max_bytes:
            self.bytes -= self._segments.popitem(last=False)[1][1]
        return segment


def _memory(packed: bytes, segment: SegmentRows) -> int:
    rows = sum(len(stream.rows) for stream in segment.streams)
    return BYTES_PER_SEGMENT + len(packed) + rows * BYTES_PER_ROW
