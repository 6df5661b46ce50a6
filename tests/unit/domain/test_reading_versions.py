"""Values of a reading, and the rule of their validity."""

from datetime import timedelta

import pytest

from bg_ingest.domain.reading_versions import ReadingVersion, iter_versions
from bg_ingest.domain.readings import StoredReading
from tests.fakes.clock import NOON
from tests.harness.sample_values import reading

MINUTE = timedelta(minutes=1)
FIRST = StoredReading(reading(0, 100), NOON, 3)
SECOND_VALUE = StoredReading(reading(0, 105), NOON + 1.5 * MINUTE, 5, (FIRST.version,))
THIRD_VALUE = StoredReading(
    reading(0, 110), NOON + timedelta(seconds=90, milliseconds=999), 9, (FIRST.version, SECOND_VALUE.version)
)


def test_a_reading_that_was_never_revised_has_one_value() -> None:
    assert list(iter_versions(FIRST)) == [ReadingVersion(FIRST)]


def test_each_value_names_the_change_that_replaced_it_in_whole_seconds() -> None:
    at = NOON + timedelta(seconds=90)
    assert list(iter_versions(THIRD_VALUE)) == [
        ReadingVersion(FIRST, at, 5),
        ReadingVersion(SECOND_VALUE, at, 9),
        ReadingVersion(THIRD_VALUE),
    ]


@pytest.mark.parametrize("seconds", [-1, 0, 89, 90, 91])
def test_at_most_one_value_is_valid_at_a_time(seconds: int) -> None:
    instant = NOON + timedelta(seconds=seconds)
    valid = [
        version.stored.change
        for version in iter_versions(THIRD_VALUE)
        if version.stored.recorded_at.replace(microsecond=0) <= instant
        and (version.superseded_at is None or instant < version.superseded_at)
    ]
    assert valid == ([] if seconds < 0 else [3] if seconds < 90 else [9])
