"""Whether a user's readings come as they should: what a dashboard shows beside the newest value."""

from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from bg_ingest.domain.commits import ConnectionSummary, Head
from bg_ingest.domain.connections import ConnectionState
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.readings import StoredReading
from bg_ingest.domain.schedule import JITTER_SPAN, Rhythm, next_poll

LATE_TOLERANCE = JITTER_SPAN + timedelta(minutes=1)
"""For the spread of polls and the poll itself: a provider that takes its time to answer makes no reading late."""

GAP_AFTER = timedelta(hours=1)
"""How long an expected reading stays late: most times out of the phone's reach are over by then."""


class FreshnessState(StrEnum):
    """How it stands with a user's readings."""

    LIVE = "live"
    LATE = "late"
    GAP = "gap"
    REAUTHORIZATION_REQUIRED = "reauthorization_required"
    PAUSED = "paused"


_STATE_BY_CONNECTION_STATE = {
    ConnectionState.PAUSED: FreshnessState.PAUSED,
    ConnectionState.REAUTHORIZATION_REQUIRED: FreshnessState.REAUTHORIZATION_REQUIRED,
}


class Freshness(msgspec.Struct, frozen=True):
    """What follows from the head and the time alone, so that every replica says the same."""

    state: FreshnessState
    age_seconds: int
    next_expected_at: datetime | None
    """When we look next; None while nobody looks."""


def assess_freshness(head: Head, newest: StoredReading, now: datetime) -> Freshness:
    """Tell how old the newest reading is and what to expect.

    Live until the reading after it should be here (its slot, the provider's delay and SLACK), then late, and
    GAP_AFTER beyond that a gap. A connection that is paused, or that the person must renew, says so instead. One
    that is forbidden, disconnected or gone promises nothing, and age alone speaks.
    """
    measured_at = newest.reading.measured_at
    age = max(0, int((now - measured_at).total_seconds()))
    provider, summary = _select_summary(head, newest.reading.device.provider)
    if summary is None:
        return Freshness(_state_by_age(measured_at, now), age, None)
    rhythm = Rhythm(
        timedelta(seconds=summary.interval_seconds),
        timedelta(seconds=summary.cadence_seconds),
        timedelta(seconds=summary.delay_seconds),
        ConnectionId(head.user, provider).jitter,
    )
    by_age = _state_by_age(measured_at + rhythm.step + rhythm.delay, now)
    expected = next_poll(measured_at, now, rhythm) if summary.state == ConnectionState.ACTIVE else None
    return Freshness(_STATE_BY_CONNECTION_STATE.get(summary.state, by_age), age, expected)


def _select_summary(head: Head, own: str) -> tuple[str, ConnectionSummary | None]:
    """Choose the connection that speaks for the user: the newest reading's own, unless only another is active."""
    active = [provider for provider, summary in head.summaries.items() if summary.state == ConnectionState.ACTIVE]
    provider = own if own in active else min(active, default=own)
    return provider, head.summaries.get(provider)


def _state_by_age(expected: datetime, now: datetime) -> FreshnessState:
    late_from = expected + LATE_TOLERANCE
    if now <= late_from:
        return FreshnessState.LIVE
    return FreshnessState.LATE if now <= late_from + GAP_AFTER else FreshnessState.GAP
