"""Selection from a segment: points agree with selected readings, and every earlier state can be read again."""

from datetime import timedelta
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bg_ingest.domain.merging import newest_shown
from bg_ingest.domain.reading_filter import AsOf, ReadingFilter
from bg_ingest.domain.readings import Device, Flag, Reading, StoredReading
from bg_ingest.domain.segment_codec import pack, to_epoch_seconds, unpack
from bg_ingest.domain.segments import KnownSegments, decide
from tests.conftest import examples
from tests.fakes.clock import NOON
from tests.harness.reading_strategies import instants, stored_readings
from tests.harness.sample_values import reading

SECOND = timedelta(seconds=1)
FIRST = StoredReading(reading(0, 100), NOON, 3)
SECOND_VALUE = StoredReading(reading(0, 105), NOON + 60 * SECOND, 5, (FIRST.version,))
THIRD_VALUE = StoredReading(reading(0, 110), NOON + 120 * SECOND, 9, (FIRST.version, SECOND_VALUE.version))


def select_readings(reading_filter: ReadingFilter, packed: bytes) -> tuple[StoredReading, ...]:
    return tuple(row[2] for row in reading_filter.select(None, reading_filter.decode_readings(packed), None))


@pytest.mark.parametrize(
    ("change", "value"), [(2, None), (3, 100), (4, 100), (5, 105), (8, 105), (9, 110), (2**31, 110)]
)
def test_a_reading_has_the_value_of_the_last_change_that_counts(change: int, value: int | None) -> None:
    answer = AsOf(change=change).apply(THIRD_VALUE)
    assert (answer.reading.glucose_mg_dl if answer else None) == value


def test_an_earlier_value_comes_with_its_own_commit_and_earlier_values() -> None:
    assert AsOf(change=5).apply(THIRD_VALUE) == SECOND_VALUE
    assert AsOf(change=3).apply(THIRD_VALUE) == FIRST


def test_all_of_the_shown_second_counts() -> None:
    recorded_at = NOON + timedelta(milliseconds=999)
    late_in_the_second = msgspec.structs.replace(FIRST, recorded_at=recorded_at)
    assert AsOf.at(NOON).apply(late_in_the_second) == late_in_the_second
    assert AsOf.at(NOON + timedelta(milliseconds=400)) == AsOf.at(NOON)
    assert AsOf.at(NOON - SECOND).apply(late_in_the_second) is None


def test_both_bounds_hold_together() -> None:
    assert AsOf(change=9, before=NOON + 61 * SECOND).apply(THIRD_VALUE) == SECOND_VALUE
    assert AsOf().apply(THIRD_VALUE) == THIRD_VALUE


quick = settings(max_examples=examples(80))
DEVICES = [Device("acme", "a", sensor, display) for sensor in (None, "t", "u") for display in ("iOS", "receiver")]
readings = st.builds(
    Reading,
    st.integers(0, 3).map(lambda slot: NOON + slot * timedelta(minutes=5)),
    st.integers(39, 43),
    st.sampled_from(Flag),
    st.sampled_from(DEVICES),
    st.sampled_from([None, "flat", "singleUp"]),
)
batches = st.lists(readings, min_size=1, max_size=6, unique_by=lambda reading: reading.identity)
points = st.one_of(
    st.none(), st.builds(AsOf, change=st.integers(0, 2**31)), st.builds(AsOf.at, instants), st.builds(AsOf.at, instants)
)


@pytest.mark.slow
@quick
@given(stored_readings(), st.builds(ReadingFilter, points, st.booleans()))
def test_points_have_the_times_and_values_of_the_readings(
    stored: list[StoredReading], reading_filter: ReadingFilter
) -> None:
    packed = pack(stored)
    selected = select_readings(reading_filter, packed)
    rows = [(to_epoch_seconds(stored.reading.measured_at), stored.reading.glucose_mg_dl) for stored in selected]
    assert [row[:2] for row in reading_filter.select(None, reading_filter.decode_points(packed), None)] == rows
    assert len({stored.reading.identity for stored in selected}) == len(selected)


@pytest.mark.slow
@quick
@given(st.lists(batches, min_size=1, max_size=6))
def test_every_earlier_state_is_returned_by_number_and_by_time(all_batches: list[list[Reading]]) -> None:
    known: KnownSegments = {}
    last = 0
    states: list[tuple[AsOf, list[StoredReading]]] = []
    for number, batch in enumerate(all_batches):
        at = NOON + timedelta(hours=number)
        decision = decide(known, batch, at=at, last_change=last)
        known = known | {segment.start: segment for segment in decision.segments}
        last += bool(decision.recorded) + bool(decision.revised)
        now = [stored for segment in known.values() for stored in segment.readings]
        states += [(AsOf(change=last), now), (AsOf.at(at), now)]
    packed = pack([stored for segment in known.values() for stored in segment.readings])
    for point, then in states:
        assert select_readings(ReadingFilter(point, all_devices=True), packed) == unpack(pack(then))


@pytest.mark.slow
@quick
@given(batches, st.randoms(use_true_random=False))
def test_selection_and_newest_reading_do_not_depend_on_the_order_of_arrival(
    batch: list[Reading], random: Random
) -> None:
    stored = [StoredReading(reading, NOON, 1) for reading in batch]
    shuffled = stored[:]
    random.shuffle(shuffled)
    assert newest_shown(stored) == newest_shown(shuffled)
    assert newest_shown(stored) in select_readings(ReadingFilter(), pack(shuffled))


def test_versions_of_the_first_stored_format_are_read() -> None:
    first = StoredReading(Reading(NOON, 100, Flag.OK, DEVICES[0], "flat"), NOON, 1)
    last = StoredReading(Reading(NOON, 39, Flag.LOW, DEVICES[0]), NOON + timedelta(hours=1), 2, (first.version,))
    base, devices, words, commits, (stream,) = msgspec.msgpack.decode(pack([last]))
    stream[-1] = {index: [version[:4] for version in versions] for index, versions in stream[-1].items()}
    older = msgspec.msgpack.encode([base, devices, words, commits, [stream]])
    (then,) = select_readings(ReadingFilter(AsOf(change=1)), older)
    assert then == msgspec.structs.replace(first, reading=msgspec.structs.replace(first.reading, trend=None))
