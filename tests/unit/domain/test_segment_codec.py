"""Readings in columns: nothing is lost, and little is stored."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import groupby

import msgspec
import pytest
from hypothesis import given, settings

from bg_ingest.domain.reading_filter import ReadingFilter
from bg_ingest.domain.readings import Reading, StoredReading
from bg_ingest.domain.segment_codec import pack, sort_readings, to_epoch_seconds, unpack
from bg_ingest.domain.segments import segment_start
from tests.conftest import examples
from tests.harness.reading_strategies import glucose_curve, index_by_identity, stored_readings

quick = settings(max_examples=examples(30))

DAYS = 90

glimpse = ReadingFilter(all_devices=True).points


@quick
@given(stored_readings())
def test_what_is_packed_is_unpacked_equal_and_ascending(readings: list[StoredReading]) -> None:
    found = unpack(pack(readings))
    assert len(found) == len(readings)
    assert index_by_identity(found) == index_by_identity(readings)
    assert list(found) == list(sort_readings(found))


@quick
@given(stored_readings())
def test_equal_readings_are_packed_alike_in_whatever_order_they_come(readings: list[StoredReading]) -> None:
    assert pack(unpack(pack(readings))) == pack(list(reversed(readings)))


@quick
@given(stored_readings())
def test_a_glimpse_shows_the_times_and_values_of_all(readings: list[StoredReading]) -> None:
    packed = pack(readings)
    shown = glimpse(packed)
    assert [at for at, _ in shown] == sorted(at for at, _ in shown)
    whole = [(to_epoch_seconds(each.reading.measured_at), each.reading.glucose_mg_dl) for each in unpack(packed)]
    assert sorted(shown) == sorted(whole)


def pack_incrementally(packed: bytes) -> bytes:
    """Append something unknown to each array that may grow, as a newer program may have."""
    base, devices, words, commits, streams = msgspec.msgpack.decode(packed)
    for *_, sent, earlier in streams:
        for each in (*sent.values(), *(version for versions in earlier.values() for version in versions)):
            each.append("newer")
    for each in (*devices, commits, *streams):
        each.append("newer")
    return msgspec.msgpack.encode([base, devices, words, commits, streams, "newer"])


@quick
@given(stored_readings())
def test_what_a_newer_program_appended_is_passed_over(readings: list[StoredReading]) -> None:
    packed = pack(readings)
    assert unpack(pack_incrementally(packed)) == unpack(packed)
    assert glimpse(pack_incrementally(packed)) == glimpse(packed)


def segments(readings: Sequence[Reading], per_commit: int) -> Iterator[list[StoredReading]]:
    """Yield the segments as they are stored when each commit brings so many readings."""
    stored = [
        StoredReading(
            each, readings[last].measured_at + timedelta(milliseconds=140_523 + 7919 * number % 977), number + 2
        )
        for index, each in enumerate(readings)
        if (number := index // per_commit) >= 0
        if (last := min((number + 1) * per_commit, len(readings)) - 1) >= 0
    ]
    for _, group in groupby(stored, key=lambda each: segment_start(each.reading.measured_at)):
        yield list(group)


@pytest.mark.parametrize("cadence", [1, 5])
@pytest.mark.parametrize("per_commit", [288, 3])
@pytest.mark.parametrize("number", [1, 3])
def test_90_days_take_at_most_10_bytes_a_reading(number: int, per_commit: int, cadence: int) -> None:
    readings = glucose_curve(number, cadence, DAYS if cadence == 5 else 10)
    sizes = [len(pack(segment)) for segment in segments(readings, per_commit)]
    assert sum(sizes) / len(readings) <= 10
