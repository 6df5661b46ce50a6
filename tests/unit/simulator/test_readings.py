"""Simulated readings: reproducible, and clamped like those of a display."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bg_ingest.domain.readings import Flag
from bg_ingest.simulator.readings import arrow, clamp_to_display
from tests.harness.simulated_readings import ALL_USERS, FIRST, MONTH, START, month, wearer

instants = st.integers(0, 40 * 86_400).map(lambda seconds: START + timedelta(seconds=seconds))


@given(instants, instants, instants, st.sampled_from(ALL_USERS), st.sampled_from([1, 5, 15]))
def test_any_split_of_a_span_gives_the_same_readings(
    a: datetime, b: datetime, c: datetime, number: int, cadence: int
) -> None:
    start, middle, end = sorted((a, b, c))
    end = min(end, start + timedelta(days=3))
    middle = min(middle, end)
    someone = wearer(number, cadence=cadence)
    before = someone.readings(start, middle)
    after = someone.readings(middle + timedelta(seconds=1), end)
    assert [*before, *after] == list(someone.readings(start, end))


@given(instants, st.sampled_from(ALL_USERS))
def test_both_ends_of_a_span_are_included(at: datetime, number: int) -> None:
    someone = wearer(number)
    for reading in someone.readings(at, at + timedelta(minutes=12)):
        assert list(someone.readings(reading.measured_at, reading.measured_at)) == [reading]


def test_seeds_give_different_readings() -> None:
    assert list(month(1)) == wearer(1).readings(START, START + MONTH)
    assert month(1) != month(1, seed=2)
    assert month(1) != month(8), "the eighth is a steady one too, but somebody else"


@pytest.mark.parametrize(("number", "flag", "value"), [(3, Flag.LOW, 39), (6, Flag.HIGH, 401)])
def test_values_outside_the_display_are_low_or_high(number: int, flag: Flag, value: int) -> None:
    flagged = [reading for reading in month(number) if reading.flag != Flag.OK]
    assert {(reading.flag, reading.glucose_mg_dl) for reading in flagged} == {(flag, value)}
    assert all(40 <= reading.glucose_mg_dl <= 400 for reading in month(number) if reading.flag == Flag.OK)


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (39.4, (39, Flag.LOW)),
        (39.6, (40, Flag.OK)),
        (400.4, (400, Flag.OK)),
        (400.6, (401, Flag.HIGH)),
        (22, (39, Flag.LOW)),
        (480, (401, Flag.HIGH)),
    ],
)
def test_the_display_reaches_from_40_to_400(level: float, expected: tuple[int, Flag]) -> None:
    assert clamp_to_display(level) == expected


def test_trend_and_rate_follow_the_values() -> None:
    readings = month(6)
    for a, b in zip(readings, readings[3:], strict=False):
        minutes = (b.measured_at - a.measured_at).total_seconds() / 60
        if minutes < 16 and a.flag == b.flag == Flag.OK:
            assert b.trend_rate == pytest.approx((b.glucose_mg_dl - a.glucose_mg_dl) / minutes, abs=0.4)
    assert {reading.trend for reading in readings} >= {"flat", "fortyFiveUp", "singleUp", "doubleUp", "fortyFiveDown"}


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (0.04, ("flat", 0.0)),
        (-0.04, ("flat", 0.0)),
        (-1.0, ("fortyFiveDown", -1.0)),
        (1.1, ("fortyFiveUp", 1.1)),
        (2.5, ("singleUp", 2.5)),
        (-2.96, ("doubleDown", -3.0)),
        (7.0, ("doubleUp", 7.0)),
    ],
)
def test_a_rate_has_one_decimal_and_its_arrow(rate: float, expected: tuple[str, float]) -> None:
    assert arrow(rate) == expected
    assert str(arrow(rate)[1]) != "-0.0"


def test_nothing_was_measured_before_the_first_day() -> None:
    readings = wearer(1).readings(FIRST - timedelta(days=5), FIRST + timedelta(days=1))
    assert FIRST <= readings[0].measured_at < FIRST + timedelta(hours=3)
