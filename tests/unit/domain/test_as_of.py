"""Answers as of a change number or an instant."""

from datetime import timedelta

import msgspec
import pytest

from bg_ingest.domain.as_of import AsOf
from bg_ingest.domain.readings import StoredReading
from tests.fakes.clock import NOON
from tests.harness.sample_values import reading

SECOND = timedelta(seconds=1)
FIRST = StoredReading(reading(0, 100), NOON, 3)
SECOND_VALUE = StoredReading(reading(0, 105), NOON + 60 * SECOND, 5, (FIRST.version,))
THIRD_VALUE = StoredReading(reading(0, 110), NOON + 120 * SECOND, 9, (FIRST.version, SECOND_VALUE.version))


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
