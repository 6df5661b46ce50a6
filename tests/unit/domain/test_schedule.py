"""Due times of polls, retries and sweeps, and the learned cadence."""

from datetime import UTC, datetime, timedelta
from math import floor
from typing import cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.schedule import (
    MAX_IDLE_INTERVAL,
    Rhythm,
    SweepDepth,
    learn_cadence,
    learn_delay,
    next_poll,
    next_retry,
)

NEWEST = datetime(2026, 3, 2, 12, 1, 7, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
SUNDAY = datetime(2026, 3, 1, tzinfo=UTC)
DEPTH = SweepDepth()
NONE = timedelta(0)
JITTERS = st.integers(0, 999).map(lambda thousandth: thousandth / 1000)


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


def rhythm(interval: float = 15, cadence: float = 5, delay: float = 0, jitter: float = 0) -> Rhythm:
    return Rhythm(minutes(interval), minutes(cadence), minutes(delay), jitter)


@pytest.mark.parametrize(
    ("silence", "wait_from_newest"),
    [
        (0, 15),
        (14, 15),
        (15, 30),
        (29, 30),
        (30, 45),
        (44, 45),
        (45, 75),
        (75, 135),
        (105, 135),
        (135, 195),
        (400, 435),
    ],
)
def test_the_wait_doubles_with_the_silence_up_to_an_hour(silence: float, wait_from_newest: float) -> None:
    assert next_poll(NEWEST, NEWEST + minutes(silence), rhythm()) == NEWEST + minutes(wait_from_newest)


def test_the_interval_counts_whole_slots_of_the_sensors_grid() -> None:
    assert next_poll(NEWEST, NEWEST, rhythm(interval=7)) == NEWEST + minutes(10)
    assert next_poll(NEWEST, NEWEST, rhythm(interval=1, cadence=15)) == NEWEST + minutes(15)


def test_slots_are_later_by_the_providers_delay() -> None:
    assert next_poll(NEWEST, NEWEST + minutes(61), rhythm(interval=5, delay=60)) == NEWEST + minutes(65)


def test_an_interval_longer_than_the_idle_bound_is_kept() -> None:
    assert next_poll(NEWEST, NEWEST + timedelta(days=3), rhythm(interval=240)) == NEWEST + timedelta(days=3, hours=4)


rhythms = st.builds(
    rhythm,
    interval=st.integers(1, 1440),
    cadence=st.sampled_from([1, 5, 15]),
    delay=st.integers(0, 240),
    jitter=st.floats(0, 1, exclude_max=True),
)


@given(rhythms, st.integers(0, 10**7), st.integers(0, 10**5))
def test_every_process_computes_the_same_future_slot(drawn_rhythm: Rhythm, silence: int, later: int) -> None:
    now = NEWEST + timedelta(seconds=silence)
    slot = next_poll(NEWEST, now, drawn_rhythm)
    assert slot > now
    assert slot - now <= max(MAX_IDLE_INTERVAL, drawn_rhythm.step) + drawn_rhythm.delay + drawn_rhythm.step + minutes(1)
    between = min(now + timedelta(seconds=later), slot - timedelta(microseconds=1))
    assert next_poll(NEWEST, between, drawn_rhythm) <= slot  # computed later, but before the slot: no later


@given(rhythms, st.integers(0, 10**7))
def test_two_polls_are_never_closer_than_the_interval(drawn_rhythm: Rhythm, silence: int) -> None:
    slot = next_poll(NEWEST, NEWEST + timedelta(seconds=silence), drawn_rhythm)
    assert next_poll(NEWEST, slot, drawn_rhythm) - slot >= drawn_rhythm.interval


def test_four_retries_follow_soon_and_the_next_at_the_slot() -> None:
    slot = NEWEST + minutes(15)
    waits = [(next_retry(n, NEWEST, slot) - NEWEST).total_seconds() for n in range(1, 7)]
    assert waits == [2, 4, 8, 16, 900, 900]


def test_a_retry_is_never_after_the_slot() -> None:
    assert next_retry(4, NEWEST, NEWEST + timedelta(seconds=3)) == NEWEST + timedelta(seconds=3)


@pytest.mark.parametrize("cadence", [60, 300, 900])
def test_the_cadence_is_learned_from_readings_with_gaps_and_wobbles(cadence: int) -> None:
    at = [NEWEST + timedelta(seconds=cadence * i + i % 2) for i in range(30) if i not in {7, 8, 20}]
    assert learn_cadence(at) == timedelta(seconds=cadence)


@pytest.mark.parametrize("gaps", [[], [300], [300, 300], [17, 4000, 33, 72, 90]])
def test_too_few_or_irregular_readings_have_no_cadence(gaps: list[int]) -> None:
    at = [NEWEST]
    for gap in gaps:
        at.append(at[-1] + timedelta(seconds=gap))
    assert learn_cadence(at) is None


@pytest.mark.parametrize("slowdown", [1.05, 1.5, 2.0, 6.8])
@pytest.mark.parametrize("slots", [1, 3])
def test_slowed_polls_stay_on_the_grid_and_their_average_is_the_slowdown(slots: int, slowdown: float) -> None:
    drawn_rhythm = msgspec.structs.replace(rhythm(interval=5 * slots, jitter=0.3), slowdown=slowdown)
    at, steps = NEWEST, []
    for _ in range(1000):
        step = drawn_rhythm.step_after(at) / drawn_rhythm.cadence
        assert step in (floor(slots * slowdown), floor(slots * slowdown) + 1)
        assert drawn_rhythm.step_after(at) <= drawn_rhythm.step
        steps.append(step)
        at += step * drawn_rhythm.cadence
    assert sum(steps) / len(steps) == pytest.approx(slots * slowdown, rel=0.03)


def test_without_slowdown_every_step_is_the_interval() -> None:
    for slot in range(100):
        assert rhythm(interval=15, jitter=0.9).step_after(NEWEST + slot * minutes(5)) == minutes(15)


def sweeps(
    jitter: float, days: int, sweep_depth: SweepDepth = DEPTH, step: timedelta = HOUR
) -> list[tuple[datetime, timedelta]]:
    """Return the time and depth of each sweep of a connection that is polled every ``step``."""
    all_sweeps, since, now = [], SUNDAY, SUNDAY
    while now < SUNDAY + days * DAY:
        now += step
        if depths := sweep_depth.due(since, now, jitter):
            all_sweeps.append((now, depths))
            since = now
    return all_sweeps


@pytest.mark.slow
@given(JITTERS)
def test_sweeps_read_three_days_once_a_day_and_thirty_once_a_week(jitter: float) -> None:
    depths = [depth for _, depth in sweeps(jitter, 28)]
    assert len(depths) == 28
    assert depths.count(30 * DAY) == 4
    assert set(depths) == {3 * DAY, 30 * DAY}


@pytest.mark.slow
@given(JITTERS)
def test_a_connection_is_swept_at_the_same_hour_every_day(jitter: float) -> None:
    first, *others = [at for at, _ in sweeps(jitter, 5, step=HOUR / 4)]
    assert [(at - first) % DAY for at in others] == [NONE] * len(others)
    assert (first - SUNDAY - jitter * DAY) % DAY < HOUR / 4


@pytest.mark.slow
def test_connections_are_spread_over_the_hours_and_the_days_of_the_week() -> None:
    jitters = [ConnectionId(UserId(f"user-{number}"), "acme").jitter for number in range(1_000)]
    all_sweeps = [sweep for jitter in jitters for sweep in sweeps(jitter, 7)]
    hours = [at.hour for at, _ in all_sweeps]
    weekdays = [at.weekday() for at, depth in all_sweeps if depth == 30 * DAY]
    assert max(map(hours.count, range(24))) < 1.6 * len(all_sweeps) / 24
    assert max(map(weekdays.count, range(7))) < 1.6 * len(jitters) / 7


def test_after_a_long_absence_one_deep_sweep_is_due() -> None:
    assert DEPTH.due(SUNDAY, SUNDAY + 100 * DAY, 0.5) == 30 * DAY
    assert DEPTH.due(SUNDAY + 100 * DAY, SUNDAY + 100 * DAY + HOUR, 0.5) == NONE


def test_a_clock_set_back_makes_no_sweep_due() -> None:
    assert DEPTH.due(SUNDAY, SUNDAY - 3 * DAY, 0.5) == NONE


@pytest.mark.parametrize(
    ("sweep_depth", "deepest"), [(SweepDepth(NONE, 30 * DAY), 30 * DAY), (SweepDepth(3 * DAY, NONE), 3 * DAY)]
)
def test_each_kind_of_sweep_can_be_disabled(sweep_depth: SweepDepth, deepest: timedelta) -> None:
    all_sweeps = [depth for _, depth in sweeps(0.5, 28, sweep_depth)]
    assert set(all_sweeps) == {deepest}
    assert len(all_sweeps) == 28 * DAY // (7 * DAY if sweep_depth.daily == NONE else DAY)
    assert not sweeps(0.5, 28, SweepDepth(NONE, NONE))


@pytest.mark.parametrize(
    ("known", "age", "absent_age", "learned"),
    [
        (60, 0.5, None, 0.5),  # shown sooner than expected
        (60, -3, None, 0),  # the clock of the sensor is ahead
        (60, 60, None, 60),
        (60, 64, 61, 60),  # the newest reading is in time, an earlier one came late
        (60, 70, None, None),  # the sensor is silent
        (60, 70, 59, None),  # the first new reading may have been in time
        (60, 70, 60, 70),
        (0, 180, 175, 180),
    ],
)
def test_f33_the_delay_is_bounded_by_each_poll(
    known: float, age: float, absent_age: float | None, learned: float | None
) -> None:
    absent = None if absent_age is None else minutes(absent_age)
    found = learn_delay(minutes(known), minutes(age), absent, minutes(5))
    assert found == (None if learned is None else minutes(learned))


@given(
    st.integers(0, 180),
    st.integers(0, 180),
    st.sampled_from([1, 5, 15]),
    st.sampled_from([1, 5, 15, 60]),
    st.integers(0, 899),
    JITTERS,
)
def test_f33_a_delay_that_changes_is_learned_to_a_cadence_within_20_readings(
    known: int, true: int, cadence: int, interval: int, phase: int, jitter: float
) -> None:
    """A sensor on a grid of its own, polled by the schedule that the learned delay gives."""
    step, delay = minutes(cadence), minutes(true)

    def newest_shown(at: datetime) -> datetime:
        return NEWEST + (at - delay - NEWEST) // step * step

    learned, now = minutes(known), NEWEST + timedelta(seconds=phase)
    newest, previous = newest_shown(now), cast("datetime | None", None)
    begins = newest
    polls = 0
    while newest - begins < 20 * step or polls < 4:
        shown = newest_shown(now)
        if shown > newest:
            absent = previous - (newest + step) if previous else None
            found = learn_delay(learned, now - shown, absent, step)
            learned = learned if found is None else found
            newest, polls = shown, polls + 1
        previous = now
        now = next_poll(newest, now, rhythm(interval, cadence, learned / minutes(1), jitter))
    assert abs(learned - delay) <= step
