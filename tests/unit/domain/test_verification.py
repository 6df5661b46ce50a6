"""Comparison of stored and provided readings over one window."""

from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bg_ingest.domain.readings import Reading
from bg_ingest.domain.verification import Difference, DifferenceKind, compare_readings
from bg_ingest.domain.windows import Window
from tests.fakes.clock import NOON
from tests.harness.sample_values import DEVICE, reading

WINDOW = Window(NOON, NOON + timedelta(hours=1))


def test_each_kind_of_difference_is_found_with_both_values() -> None:
    stored = [reading(0, 100), reading(1, 110), reading(2, 120)]
    provided = [reading(0, 100), reading(1, 111), reading(3, 130)]
    result = compare_readings(WINDOW, stored, provided, unreadable=2)
    assert (result.window, result.compared, result.unreadable) == (WINDOW, 4, 2)
    assert [
        (difference.kind, difference.stored_mg_dl, difference.provider_mg_dl) for difference in result.differences
    ] == [
        (DifferenceKind.OTHER_VALUE, 110, 111),
        (DifferenceKind.NOT_AT_PROVIDER, 120, None),
        (DifferenceKind.NOT_STORED, None, 130),
    ]
    assert result.counts() == dict.fromkeys(DifferenceKind, 1)


def test_a_difference_in_another_field_is_none() -> None:
    assert not compare_readings(WINDOW, [reading(0, trend="flat")], [reading(0)], 0).differences


def test_the_displays_of_a_sensor_are_compared_separately() -> None:
    receiver = msgspec.structs.replace(DEVICE, display="receiver")
    result = compare_readings(WINDOW, [reading(0)], [reading(0), reading(0, device=receiver)], 0)
    assert [(difference.kind, difference.device) for difference in result.differences] == [
        (DifferenceKind.NOT_STORED, "g7/receiver")
    ]


def test_readings_outside_of_the_window_are_ignored() -> None:
    result = compare_readings(WINDOW, [reading(-1), reading(12)], [reading(13)], 0)
    assert (result.compared, result.differences) == (0, ())


def test_a_difference_can_be_shown_without_its_values() -> None:
    difference = Difference(
        kind=DifferenceKind.OTHER_VALUE, measured_at=NOON, device="g7/iOS", stored_mg_dl=110, provider_mg_dl=111
    )
    hidden = difference.without_values()
    assert (hidden.stored_mg_dl, hidden.provider_mg_dl) == (None, None)
    assert (hidden.kind, hidden.measured_at, hidden.device) == (difference.kind, NOON, "g7/iOS")


sides = st.dictionaries(st.integers(0, 11), st.integers(90, 92))


@pytest.mark.slow
@given(sides, sides)
def test_differences_are_those_of_the_two_series_by_time(ours: dict[int, int], theirs: dict[int, int]) -> None:
    def as_readings(values: dict[int, int]) -> list[Reading]:
        return [reading(number, value) for number, value in values.items()]

    result = compare_readings(WINDOW, as_readings(ours), as_readings(theirs), 0)
    expected = [number for number in sorted({*ours, *theirs}) if ours.get(number) != theirs.get(number)]
    assert [difference.measured_at for difference in result.differences] == [
        reading(number).measured_at for number in expected
    ]
