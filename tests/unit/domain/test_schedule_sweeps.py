from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.schedule import SweepDepth

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
SUNDAY = datetime(2026, 3, 1, tzinfo=UTC)
DEPTH = SweepDepth()
NONE = timedelta(0)
JITTERS = st.integers(0, 999).map(lambda thousandth: thousandth / 1000)


def sweeps(
    jitter: float, days: int, reach: SweepDepth = DEPTH, step: timedelta = HOUR
) -> list[tuple[datetime, timedelta]]:
    """When a connection that is looked at every so often is swept, and how far back."""
    found, since, now = [], SUNDAY, SUNDAY
    while now < SUNDAY + days * DAY:
        now += step
        if reached := reach.due(since, now, jitter):
            found.append((now, reached))
            since = now
    return found


@given(JITTERS)
def test_once_a_day_three_days_and_once_a_week_thirty(jitter: float) -> None:
    reached = [back for _, back in sweeps(jitter, 28)]
    assert len(reached) == 28
    assert reached.count(30 * DAY) == 4
    assert set(reached) == {3 * DAY, 30 * DAY}


@given(JITTERS)
def test_always_at_the_same_hour(jitter: float) -> None:
    first, *others = [at for at, _ in sweeps(jitter, 5, step=HOUR / 4)]
    assert [(at - first) % DAY for at in others] == [NONE] * len(others)
    assert (first - SUNDAY - jitter * DAY) % DAY < HOUR / 4


def test_people_are_spread_over_the_hours_and_the_days_of_the_week() -> None:
    people = [ConnectionId(UserId(f"user-{number}"), "acme").jitter for number in range(1_000)]
    found = [sweep for jitter in people for sweep in sweeps(jitter, 7)]
    hours = [at.hour for at, _ in found]
    weekdays = [at.weekday() for at, back in found if back == 30 * DAY]
    assert max(map(hours.count, range(24))) < 1.6 * len(found) / 24
    assert max(map(weekdays.count, range(7))) < 1.6 * len(people) / 7


def test_who_was_away_for_long_is_swept_once_and_far() -> None:
    assert DEPTH.due(SUNDAY, SUNDAY + 100 * DAY, 0.5) == 30 * DAY
    assert DEPTH.due(SUNDAY + 100 * DAY, SUNDAY + 100 * DAY + HOUR, 0.5) == NONE


def test_a_clock_set_back_makes_none_due() -> None:
    assert DEPTH.due(SUNDAY, SUNDAY - 3 * DAY, 0.5) == NONE


@pytest.mark.parametrize(
    ("reach", "longest"), [(SweepDepth(NONE, 30 * DAY), 30 * DAY), (SweepDepth(3 * DAY, NONE), 3 * DAY)]
)
def test_either_can_be_turned_off(reach: SweepDepth, longest: timedelta) -> None:
    found = [back for _, back in sweeps(0.5, 28, reach)]
    assert set(found) == {longest}
    assert len(found) == 28 * DAY // (7 * DAY if reach.nightly == NONE else DAY)
    assert not sweeps(0.5, 28, SweepDepth(NONE, NONE))
