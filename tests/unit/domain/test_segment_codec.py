"""Column format of readings: nothing is lost, and a reading takes at most 10 bytes."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import groupby

import msgspec
import pytest
from hypothesis import given, settings

from bg_ingest.domain.merging import Row
from bg_ingest.domain.reading_filter import ReadingFilter
from bg_ingest.domain.readings import Reading, StoredReading
from bg_ingest.domain.segment_codec import pack, sort_readings, to_epoch_seconds, unpack
from bg_ingest.domain.segments import segment_start
from tests.conftest import examples
from tests.harness.reading_strategies import glucose_curve, index_by_identity, stored_readings

quick = settings(max_examples=examples(30))

DAYS = 90

ALL_DEVICES = ReadingFilter(all_devices=True)


def all_points(packed: bytes) -> Sequence[Row]:
    return ALL_DEVICES.select(None, ALL_DEVICES.decode_points(packed), None)


@pytest.mark.slow
@quick
@given(stored_readings())
def test_packed_readings_are_unpacked_equal_and_ascending(readings: list[StoredReading]) -> None:
    unpacked = unpack(pack(readings))
    assert len(unpacked) == len(readings)
    assert index_by_identity(unpacked) == index_by_identity(readings)
    assert list(unpacked) == list(sort_readings(unpacked))


@pytest.mark.slow
@quick
@given(stored_readings())
def test_equal_readings_are_packed_alike_in_any_order(readings: list[StoredReading]) -> None:
    assert pack(unpack(pack(readings))) == pack(list(reversed(readings)))


@pytest.mark.slow
@quick
@given(stored_readings())
def test_points_have_the_times_and_values_of_all_readings(readings: list[StoredReading]) -> None:
    packed = pack(readings)
    points = all_points(packed)
    assert [at for at, _ in points] == sorted(at for at, _ in points)
    expected = [
        (to_epoch_seconds(stored.reading.measured_at), stored.reading.glucose_mg_dl) for stored in unpack(packed)
    ]
    assert sorted(points) == sorted(expected)


def append_unknown_fields(packed: bytes) -> bytes:
    """Append a field to each array that may grow, as a newer program may do."""
    base, devices, words, commits, streams = msgspec.msgpack.decode(packed)
    for *_, sent, earlier in streams:
        for array in (*sent.values(), *(version for versions in earlier.values() for version in versions)):
            array.append("newer")
    for array in (*devices, commits, *streams):
        array.append("newer")
    return msgspec.msgpack.encode([base, devices, words, commits, streams, "newer"])


@pytest.mark.slow
@quick
@given(stored_readings())
def test_fields_appended_by_a_newer_program_are_ignored(readings: list[StoredReading]) -> None:
    packed = pack(readings)
    assert unpack(append_unknown_fields(packed)) == unpack(packed)
    assert all_points(append_unknown_fields(packed)) == all_points(packed)


def segments(readings: Sequence[Reading], per_commit: int) -> Iterator[list[StoredReading]]:
    """Yield the stored segments of commits with ``per_commit`` readings."""
    stored = [
        StoredReading(
            reading, readings[last].measured_at + timedelta(milliseconds=140_523 + 7919 * number % 977), number + 2
        )
        for index, reading in enumerate(readings)
        if (number := index // per_commit) >= 0
        if (last := min((number + 1) * per_commit, len(readings)) - 1) >= 0
    ]
    for _, group in groupby(stored, key=lambda stored: segment_start(stored.reading.measured_at)):
        yield list(group)


@pytest.mark.slow
@pytest.mark.parametrize("cadence", [1, 5])
@pytest.mark.parametrize("per_commit", [288, 3])
@pytest.mark.parametrize("number", [1, 3])
def test_90_days_take_at_most_10_bytes_a_reading(number: int, per_commit: int, cadence: int) -> None:
    readings = glucose_curve(number, cadence, DAYS if cadence == 5 else 10)
    sizes = [len(pack(segment)) for segment in segments(readings, per_commit)]
    assert sum(sizes) / len(readings) <= 10
