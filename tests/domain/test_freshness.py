"""What a dashboard shows beside the newest value follows from the head and the time alone."""

from datetime import timedelta

import msgspec
import pytest

from bg_ingest.domain.commits import Head, Standing
from bg_ingest.domain.connections import State
from bg_ingest.domain.freshness import GAP_AFTER, SLACK, Condition, freshness
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.readings import Device, Flag, Reading, Recorded
from bg_ingest.domain.schedule import Rhythm, next_poll
from tests.fakes.clock import NOON

ADA = UserId("ada")
CADENCE, DELAY, INTERVAL = timedelta(minutes=5), timedelta(hours=1), timedelta(minutes=15)
NEWEST = Recorded(Reading(NOON, 110, Flag.OK, Device("acme", "account-1", None, "iOS")), NOON, 1)
SECOND = timedelta(seconds=1)


def standing(state: State = State.ACTIVE) -> Standing:
    return Standing(state, 300, 3600, 900)


def head(**standings: Standing) -> Head:
    return Head(ADA, 1, NOON, NEWEST, standings)


@pytest.mark.parametrize(
    ("age", "condition"),
    [
        (timedelta(), Condition.LIVE),
        (INTERVAL + DELAY, Condition.LIVE),
        (INTERVAL + DELAY + SLACK, Condition.LIVE),
        (INTERVAL + DELAY + SLACK + SECOND, Condition.LATE),
        (INTERVAL + DELAY + SLACK + GAP_AFTER, Condition.LATE),
        (INTERVAL + DELAY + SLACK + GAP_AFTER + SECOND, Condition.GAP),
        (timedelta(days=400), Condition.GAP),
    ],
)
def test_it_is_live_until_the_next_reading_is_overdue_then_late_then_a_gap(
    age: timedelta, condition: Condition
) -> None:
    assert freshness(head(acme=standing()), NEWEST, NOON + age).condition is condition


@pytest.mark.parametrize("minutes", [0, 61, 76, 200, 100_000])
def test_what_is_expected_is_when_the_poll_is_due(minutes: int) -> None:
    now = NOON + timedelta(minutes=minutes)
    rhythm = Rhythm(INTERVAL, CADENCE, DELAY, ConnectionId(ADA, "acme").jitter)
    expected = freshness(head(acme=standing()), NEWEST, now).next_expected_at
    assert expected == next_poll(NOON, now, rhythm) > now


def test_just_before_the_next_reading_is_due_it_is_still_live() -> None:
    found = freshness(head(acme=standing()), NEWEST, NOON)
    assert found.next_expected_at is not None
    assert freshness(head(acme=standing()), NEWEST, found.next_expected_at).condition is Condition.LIVE


@pytest.mark.parametrize(
    ("state", "condition"),
    [
        (State.PAUSED, Condition.PAUSED),
        (State.REAUTHORIZATION_REQUIRED, Condition.REAUTHORIZATION_REQUIRED),
        (State.PROVIDER_FORBIDDEN, Condition.GAP),
        (State.DISCONNECTED, Condition.GAP),
    ],
)
def test_a_connection_that_is_not_read_says_why_and_expects_nothing(state: State, condition: Condition) -> None:
    found = freshness(head(acme=standing(state)), NEWEST, NOON + timedelta(days=1))
    assert (found.condition, found.next_expected_at) == (condition, None)


def test_without_any_connection_age_alone_speaks() -> None:
    assert freshness(head(), NEWEST, NOON).condition is Condition.LIVE
    assert freshness(head(), NEWEST, NOON + timedelta(days=1)).condition is Condition.GAP
    assert freshness(head(), NEWEST, NOON).next_expected_at is None


def test_the_newest_readings_own_connection_speaks_unless_only_another_is_active() -> None:
    own_and_other = head(acme=standing(), aardvark=msgspec.structs.replace(standing(), interval_seconds=86_400))
    assert freshness(own_and_other, NEWEST, NOON) == freshness(head(acme=standing()), NEWEST, NOON)
    replaced = head(acme=standing(State.DISCONNECTED), other=standing())
    assert freshness(replaced, NEWEST, NOON).next_expected_at is not None
    both_end = head(acme=standing(State.REAUTHORIZATION_REQUIRED), other=standing(State.PAUSED))
    assert freshness(both_end, NEWEST, NOON).condition is Condition.REAUTHORIZATION_REQUIRED


def test_age_is_in_whole_seconds_and_never_below_zero() -> None:
    assert freshness(head(), NEWEST, NOON + timedelta(seconds=61.9)).age_seconds == 61
    assert freshness(head(), NEWEST, NOON - timedelta(seconds=30)).age_seconds == 0
