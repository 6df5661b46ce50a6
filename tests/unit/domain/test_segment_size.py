"""The estimate of packed bytes is an upper bound, so that no segment or commit exceeds an item of the store."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bg_ingest.domain.readings import AsSent, Device, Flag, Reading, StoredReading
from bg_ingest.domain.segment_codec import pack
from bg_ingest.domain.segment_size import MAX_COMMIT_BYTES, MAX_SEGMENT_BYTES, estimate_bytes
from bg_ingest.domain.segments import MAX_VERSIONS, KnownSegments, decide, split_batch

START = datetime(2026, 3, 1, tzinfo=UTC)
texts = st.text(min_size=1, max_size=64)


def worst(number: int) -> Reading:
    """Return a reading that shares no text with another, each with the longest texts."""
    word = f"{number:04}" + "\U0001f600" * 60
    device = Device("dexcom", word * 2, word, word, word)
    return Reading(
        START + timedelta(seconds=number), 120, Flag.OK, device, word, 0.123456, 3600, AsSent(6.66, "mmol/L")
    )


@pytest.mark.slow
@given(
    st.lists(st.builds(Device, st.just("acme"), texts, texts, texts, texts), max_size=5), st.lists(texts, max_size=5)
)
def test_the_estimate_is_an_upper_bound(devices: list[Device], trends: list[str]) -> None:
    readings = [
        Reading(START + timedelta(seconds=7_919 * number % 21_600), 40 + number, Flag.OK, device, trend, number / 7)
        for number, (device, trend) in enumerate((device, trend) for device in devices for trend in trends)
    ]
    packed = pack([StoredReading(reading, START, number) for number, reading in enumerate(readings)])
    assert len(packed) <= sum(map(estimate_bytes, readings)) + 64


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [1, 60, 288])
def test_f20_no_segment_and_no_commit_exceeds_an_item_of_the_store(at_once: int) -> None:
    known: KnownSegments = {}
    rejected = 0
    batch = [worst(number) for number in range(600)]
    for first in range(0, len(batch), at_once):
        for part in split_batch(batch[first : first + at_once]):
            assert len(pack([StoredReading(reading, START, 1) for reading in part])) <= MAX_COMMIT_BYTES
            decision = decide(known, part, at=START, last_change=first)
            known |= {segment.start: segment for segment in decision.segments}
            rejected += len(decision.rejected)
            assert {record.reason for record in decision.rejected} <= {"segment_full"}
    (segment,) = known.values()
    assert len(segment.readings) + rejected == len(batch)
    assert 0.8 * MAX_SEGMENT_BYTES < len(pack(segment.readings)) <= MAX_SEGMENT_BYTES


def test_f20_a_revision_that_is_rejected_needs_no_room() -> None:
    known: KnownSegments = {}
    for number in range(MAX_VERSIONS + 1):
        decision = decide(known, [replace(worst(0), glucose_mg_dl=100 + number)], at=START, last_change=number)
        known = {segment.start: segment for segment in decision.segments}
    batch = [worst(number) for number in range(1, 600)]
    full = decide(known, batch, at=START, last_change=20)
    room = len(full.recorded)
    fitting = decide(known, [replace(worst(0), glucose_mg_dl=99), *batch[:room]], at=START, last_change=20)
    assert [record.reason for record in fitting.rejected] == ["too_many_revisions"]
    assert len(fitting.recorded) == room


def test_f20_a_full_segment_counts_what_it_has_as_duplicates() -> None:
    batch = [worst(number) for number in range(150)]
    decision = decide({}, batch, at=START, last_change=0)
    again = decide({segment.start: segment for segment in decision.segments}, batch, at=START, last_change=1)
    assert (again.duplicates, again.segments, again.rejected) == (len(batch), (), ())
