"""Simulated readings: reproducible, clamped like those of a display, on the grid of a sensor."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bg_ingest.domain.readings import Flag
from bg_ingest.simulator import TrueReading
from bg_ingest.simulator.readings import arrow, clamp_to_display
from tests.harness.simulated_readings import ALL_USERS, FIRST, MONTH, START, month, wearer

instants = st.integers(0, 40 * 86_400).map(lambda seconds: START + timedelta(seconds=seconds))


@pytest.mark.slow
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


@pytest.mark.slow
def test_seeds_give_different_readings() -> None:
    assert list(month(1)) == wearer(1).readings(START, START + MONTH)
    assert month(1) != month(1, seed=2)
    assert month(1) != month(8), "the eighth is a steady user too, but another person"


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


def steps(readings: Sequence[TrueReading]) -> list[float]:
    return [(b.measured_at - a.measured_at).total_seconds() for a, b in pairwise(readings)]


@pytest.mark.slow
@pytest.mark.parametrize("cadence", [1, 5, 15])
def test_readings_keep_to_the_cadence_but_for_a_second(cadence: int) -> None:
    common = Counter(steps(month(1, cadence=cadence))).most_common(3)
    assert {step for step, _ in common} == {cadence * 60 - 1, cadence * 60, cadence * 60 + 1}
    assert common[0][0] == cadence * 60


@pytest.mark.parametrize(("number", "warm_up"), [(1, timedelta(hours=2)), (7, timedelta(minutes=30))])
def test_a_sensor_lasts_ten_days_and_the_next_one_warms_up(number: int, warm_up: timedelta) -> None:
    readings = month(number)
    changes = [(a, b) for a, b in pairwise(readings) if a.transmitter_id != b.transmitter_id]
    assert len(changes) == 3
    assert len({reading.transmitter_id for reading in readings}) == 4
    for before, after in changes:
        assert warm_up <= after.measured_at - before.measured_at < warm_up + timedelta(hours=3)
        assert before.transmitter_ticks > 9.8 * 86_400
        assert warm_up.total_seconds() <= after.transmitter_ticks < warm_up.total_seconds() + 3 * 3600
    worn = [b.measured_at - a.measured_at for (_, a), (b, _) in pairwise(changes)]
    assert all(timedelta(days=9.8) < span < timedelta(days=10) for span in worn)


def test_some_readings_are_missing_and_most_are_there() -> None:
    readings = month(1)
    assert 8000 < len(readings) < 8600
    gaps = [step for step in steps(readings) if step > 301]
    assert any(step < 700 for step in gaps), "a single reading lost"
    assert any(900 < step < 9000 for step in gaps), "consecutive readings lost"
