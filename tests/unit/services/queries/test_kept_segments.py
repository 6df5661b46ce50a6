"""Kept segments: answers equal those of fresh segments in every byte, and the memory is bounded."""

from collections.abc import AsyncGenerator, Sequence
from datetime import timedelta
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bg_ingest.api.formats import Format, encode_stream
from bg_ingest.api.views import BASIC
from bg_ingest.domain.merging import SegmentRows, Stream
from bg_ingest.domain.point_columns import PointColumns
from bg_ingest.domain.reading_filter import AsOf, ReadingFilter
from bg_ingest.domain.readings import Device, Flag, Reading, StoredReading
from bg_ingest.domain.segment_codec import pack
from bg_ingest.domain.segments import segment_start
from bg_ingest.domain.windows import Window
from bg_ingest.services.queries.kept_segments import MAX_KEPT_WINDOW, KeptSegments
from bg_ingest.services.queries.readings import DEFAULT_FILTER, ReadingQueries, iter_shown
from tests.conftest import examples, on
from tests.fakes.clock import NOON, SetClock
from tests.harness.sample_values import USER

anyio_backend = on("asyncio")

DEVICES = [
    Device("acme", "account-1", "ab" * 32, "iOS", "g7"),
    Device("acme", "account-1", "ab" * 32, "receiver", "g7"),
    Device("acme", "account-1", "cd" * 32, "iOS", "g6"),
]
TEXTS = [form for form in BASIC.formats if isinstance(form, Format)]
FILTERS = [DEFAULT_FILTER, ReadingFilter(all_devices=True), ReadingFilter(AsOf(change=2))]

ROWS = st.lists(
    st.tuples(st.integers(0, 1_440), st.integers(40, 45), st.sampled_from([0, 0, 0, 0, 1, 2]), st.integers(1, 3)),
    min_size=1,
    max_size=60,
)
REQUESTS = st.lists(
    st.tuples(
        st.sampled_from([-60, 0, 360]) | st.integers(-60, 1_500),
        st.sampled_from([360, 1_500]) | st.integers(1, 1_500),
        st.sampled_from([DEFAULT_FILTER, *FILTERS]),
        st.booleans(),
    ),
    min_size=1,
    max_size=8,
)


class PackedReadings:
    """Readings by segment, as stored."""

    def __init__(self, rows: Sequence[tuple[int, int, int, int]]) -> None:
        self.segments: dict[Any, dict[Any, StoredReading]] = {}
        for minute, value, device, change in rows:
            reading = Reading(NOON + timedelta(minutes=minute), value, Flag.OK, DEVICES[device])
            segment = self.segments.setdefault(segment_start(reading.measured_at), {})
            segment[reading.device, reading.measured_at] = StoredReading(reading, NOON, change)

    async def iter_packed(self, _: Any, window: Window, *, consistent: bool = False) -> AsyncGenerator[bytes]:
        del consistent
        for start, segment in sorted(self.segments.items()):
            if start < window.end and start + timedelta(hours=6) > window.start:
                yield pack([*segment.values()])


async def body(batches: AsyncGenerator[Sequence[Any]], form: Format) -> bytes:
    return b"".join([chunk async for chunk in encode_stream(batches, BASIC.present, form)])


@pytest.mark.slow
@given(rows=ROWS, requests=REQUESTS)
@settings(max_examples=examples(60))
async def test_every_answer_equals_that_of_fresh_segments(rows: Any, requests: Any) -> None:
    stored = PackedReadings(rows)
    store = cast("Any", stored)
    queries = ReadingQueries(store, SetClock())
    for start, minutes, reading_filter, revised in requests:
        begin = NOON + timedelta(minutes=start)
        window = Window(begin, begin + timedelta(minutes=minutes))
        for form in (*TEXTS, TEXTS[-1]):
            fresh = iter_shown(store, USER, window, reading_filter, reading_filter.decode_points)
            expected = await body(_plain(fresh), form)
            assert await body(queries.points(USER, window, reading_filter), form) == expected
        if revised:
            segment = next(iter(stored.segments.values()))
            key, first = next(iter(segment.items()))
            value = first.reading.glucose_mg_dl + 1
            segment[key] = StoredReading(
                Reading(first.reading.measured_at, value, Flag.OK, first.reading.device), NOON, 4
            )


async def _plain(batches: AsyncGenerator[Sequence[Any]]) -> AsyncGenerator[Sequence[Any]]:
    async for rows in batches:
        yield list(rows)  # without the text of PointColumns


def decoded(packed: bytes) -> SegmentRows:
    return SegmentRows(
        [Stream(DEVICES[0].sensor, DEVICES[0].display_rank, [(number, 100) for number in range(72)])], len(packed)
    )


def test_the_memory_is_bounded_and_the_least_recently_used_segment_is_dropped() -> None:
    calls: list[bytes] = []

    def decode(packed: bytes) -> SegmentRows:
        calls.append(packed)
        return decoded(packed)

    kept = KeptSegments(decode, max_bytes=25_000)
    for packed in (b"a", b"b", b"a", b"c", b"a", b"b"):
        kept.decode(packed)
        assert kept.bytes <= 25_000
    assert calls == [b"a", b"b", b"c", b"b"]


@pytest.mark.parametrize(("days", "is_kept"), [(100, True), (101, False)])
def test_a_long_window_is_not_kept(days: int, *, is_kept: bool) -> None:
    kept = KeptSegments(decoded)
    kept.decoder(Window(NOON, NOON + timedelta(days=days)))(b"a")
    assert (kept.bytes > 0) is is_kept
    assert timedelta(days=100) == MAX_KEPT_WINDOW


def test_a_text_is_kept_for_one_encoding_only() -> None:
    rows = PointColumns([1], [100])
    assert rows.encode("json", lambda: b"one") == b"one"
    assert rows.encode("json", lambda: b"two") == b"one"
    assert rows.encode("csv", lambda: b"two") == b"two"
    assert rows.encode("json", lambda: b"three") == b"three"
