"""Freshness beside the newest value, computed from the head and the time alone."""

from datetime import timedelta

import msgspec
import pytest

from bg_ingest.domain.commits import ConnectionSummary, Head
from bg_ingest.domain.connections import ConnectionState
from bg_ingest.domain.freshness import GAP_AFTER, LATE_TOLERANCE, FreshnessState, assess_freshness
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.readings import Device, Flag, Reading, StoredReading
from bg_ingest.domain.schedule import Rhythm, next_poll
from tests.fakes.clock import NOON

ADA = UserId("ada")
CADENCE, DELAY, INTERVAL = timedelta(minutes=5), timedelta(hours=1), timedelta(minutes=15)
NEWEST = StoredReading(Reading(NOON, 110, Flag.OK, Device("acme", "account-1", None, "iOS")), NOON, 1)
SECOND = timedelta(seconds=1)


def summary(state: ConnectionState = ConnectionState.ACTIVE) -> ConnectionSummary:
    return ConnectionSummary(state, 300, 3600, 900)


def head(**summaries: ConnectionSummary) -> Head:
    return Head(ADA, 1, NOON, NEWEST, summaries)


@pytest.mark.parametrize(
    ("age", "expected"),
    [
        (timedelta(), FreshnessState.LIVE),
        (INTERVAL + DELAY, FreshnessState.LIVE),
        (INTERVAL + DELAY + LATE_TOLERANCE, FreshnessState.LIVE),
        (INTERVAL + DELAY + LATE_TOLERANCE + SECOND, FreshnessState.LATE),
        (INTERVAL + DELAY + LATE_TOLERANCE + GAP_AFTER, FreshnessState.LATE),
        (INTERVAL + DELAY + LATE_TOLERANCE + GAP_AFTER + SECOND, FreshnessState.GAP),
        (timedelta(days=400), FreshnessState.GAP),
    ],
)
def test_readings_are_live_until_the_next_is_overdue_then_late_then_a_gap(
    age: timedelta, expected: FreshnessState
) -> None:
    assert assess_freshness(head(acme=summary()), NEWEST, NOON + age).state is expected


@pytest.mark.parametrize("minutes", [0, 61, 76, 200, 100_000])
def test_the_next_reading_is_expected_at_the_due_time_of_the_poll(minutes: int) -> None:
    now = NOON + timedelta(minutes=minutes)
    rhythm = Rhythm(INTERVAL, CADENCE, DELAY, ConnectionId(ADA, "acme").jitter)
    expected = assess_freshness(head(acme=summary()), NEWEST, now).next_expected_at
    assert expected == next_poll(NOON, now, rhythm) > now


def test_at_the_due_time_of_the_next_reading_the_state_is_still_live() -> None:
    freshness = assess_freshness(head(acme=summary()), NEWEST, NOON)
    assert freshness.next_expected_at is not None
    assert assess_freshness(head(acme=summary()), NEWEST, freshness.next_expected_at).state is FreshnessState.LIVE


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (ConnectionState.PAUSED, FreshnessState.PAUSED),
        (ConnectionState.REAUTHORIZATION_REQUIRED, FreshnessState.REAUTHORIZATION_REQUIRED),
        (ConnectionState.PROVIDER_FORBIDDEN, FreshnessState.GAP),
        (ConnectionState.DISCONNECTED, FreshnessState.GAP),
    ],
)
def test_a_connection_without_polls_shows_its_state_and_expects_nothing(
    state: ConnectionState, expected: FreshnessState
) -> None:
    freshness = assess_freshness(head(acme=summary(state)), NEWEST, NOON + timedelta(days=1))
    assert (freshness.state, freshness.next_expected_at) == (expected, None)


def test_without_any_connection_only_the_age_counts() -> None:
    assert assess_freshness(head(), NEWEST, NOON).state is FreshnessState.LIVE
    assert assess_freshness(head(), NEWEST, NOON + timedelta(days=1)).state is FreshnessState.GAP
    assert assess_freshness(head(), NEWEST, NOON).next_expected_at is None


def test_the_connection_of_the_newest_reading_decides_unless_only_another_is_active() -> None:
    own_and_other = head(acme=summary(), aardvark=msgspec.structs.replace(summary(), interval_seconds=86_400))
    assert assess_freshness(own_and_other, NEWEST, NOON) == assess_freshness(head(acme=summary()), NEWEST, NOON)
    replaced = head(acme=summary(ConnectionState.DISCONNECTED), other=summary())
    assert assess_freshness(replaced, NEWEST, NOON).next_expected_at is not None
    both_end = head(acme=summary(ConnectionState.REAUTHORIZATION_REQUIRED), other=summary(ConnectionState.PAUSED))
    assert assess_freshness(both_end, NEWEST, NOON).state is FreshnessState.REAUTHORIZATION_REQUIRED


def test_age_is_in_whole_seconds_and_never_below_zero() -> None:
    assert assess_freshness(head(), NEWEST, NOON + timedelta(seconds=61.9)).age_seconds == 61
    assert assess_freshness(head(), NEWEST, NOON - timedelta(seconds=30)).age_seconds == 0
