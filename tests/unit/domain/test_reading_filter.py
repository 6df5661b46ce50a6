"""Selection from a segment: points agree with selected readings, and every earlier state can be read again."""

from datetime import UTC, datetime, timedelta
from random import Random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from bg_ingest.domain.as_of import AsOf
from bg_ingest.domain.reading_filter import ReadingFilter
from bg_ingest.domain.readings import Device, Flag, Reading, StoredReading, newest_reading
from bg_ingest.domain.segment_codec import pack, to_epoch_seconds, unpack
from bg_ingest.domain.segments import KnownSegments, decide
from tests.conftest import examples
from tests.harness.reading_strategies import instants, stored_readings

quick = settings(max_examples=examples(80))

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
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


@quick
@given(stored_readings(), st.builds(ReadingFilter, points, st.booleans()))
def test_points_have_the_times_and_values_of_the_readings(
    stored: list[StoredReading], reading_filter: ReadingFilter
) -> None:
    packed = pack(stored)
    selected = reading_filter.readings(packed)
    rows = [(to_epoch_seconds(stored.reading.measured_at), stored.reading.glucose_mg_dl) for stored in selected]
    assert list(reading_filter.points(packed)) == rows
    assert len({stored.reading.identity for stored in selected}) == len(selected)


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
        assert ReadingFilter(point, all_devices=True).readings(packed) == unpack(pack(then))


@quick
@given(batches, st.randoms(use_true_random=False))
def test_selection_and_newest_reading_do_not_depend_on_the_order_of_arrival(
    batch: list[Reading], random: Random
) -> None:
    stored = [StoredReading(reading, NOON, 1) for reading in batch]
    shuffled = stored[:]
    random.shuffle(shuffled)
    assert newest_reading(stored) == newest_reading(shuffled)
    assert newest_reading(stored) in ReadingFilter().readings(pack(shuffled))


def test_versions_of_the_first_stored_format_are_read() -> None:
    first = StoredReading(Reading(NOON, 100, Flag.OK, DEVICES[0], "flat"), NOON, 1)
    last = StoredReading(Reading(NOON, 39, Flag.LOW, DEVICES[0]), NOON + timedelta(hours=1), 2, (first.version,))
    base, devices, words, commits, (stream,) = msgspec.msgpack.decode(pack([last]))
    stream[-1] = {index: [version[:4] for version in versions] for index, versions in stream[-1].items()}
    older = msgspec.msgpack.encode([base, devices, words, commits, [stream]])
    (then,) = ReadingFilter(AsOf(change=1)).readings(older)
    assert then == msgspec.structs.replace(first, reading=msgspec.structs.replace(first.reading, trend=None))
