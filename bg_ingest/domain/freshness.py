"""Freshness of a user's readings, shown beside the newest value."""

from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from bg_ingest.domain.commits import ConnectionSummary, Head
from bg_ingest.domain.connections import ConnectionState
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.readings import StoredReading
from bg_ingest.domain.schedule import JITTER_SPAN, Rhythm, next_poll

LATE_TOLERANCE = JITTER_SPAN + timedelta(minutes=1)
"""Allowance for the spread of polls and the duration of one, so that a slow answer does not make a reading late."""

GAP_AFTER = timedelta(hours=1)
"""Time for which an expected reading counts as late. It then counts as a gap, because most losses of the phone's
connection end sooner."""


def overdue_before(now: datetime, delay: timedelta) -> datetime:
    """Return the limit of the measurement time before which a reading that has not arrived counts as missing."""
    return now - delay - LATE_TOLERANCE - GAP_AFTER


class FreshnessState(StrEnum):
    """State of a user's readings as shown on a dashboard."""

    LIVE = "live"
    LATE = "late"
    GAP = "gap"
    REAUTHORIZATION_REQUIRED = "reauthorization_required"
    PAUSED = "paused"


_SHOWN_STATES = (ConnectionState.REAUTHORIZATION_REQUIRED, ConnectionState.PAUSED)
"""States of a connection that are shown instead of the state by age."""


class Freshness(msgspec.Struct, frozen=True):
    """Freshness computed from the head and the time alone, so that every replica returns the same."""

    state: FreshnessState
    age_seconds: int
    next_expected_at: datetime | None
    """Due time of the next poll; None if the connection is not active."""
    late_at: datetime | None = None
    """Time at which the state becomes late if no reading arrives; None if it does not become late any more."""
    gap_at: datetime | None = None
    """Time at which the state becomes a gap if no reading arrives; None if it does not become one any more."""


def assess_freshness(head: Head, newest: StoredReading, now: datetime) -> Freshness:
    """Assess the age of the newest reading.

    The next reading is due ``Rhythm.step`` plus the provider's delay after the newest. The state is live until
    ``LATE_TOLERANCE`` after the due time, then late for ``GAP_AFTER``, then a gap. A connection that is paused or must
    be authorised again has its own state instead. For a forbidden or disconnected connection, no reading is expected,
    so the returned times are None. Without a connection, the measurement time replaces the due time.
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
    if summary.state in _SHOWN_STATES:
        return Freshness(FreshnessState(summary.state), age, None)
    due = measured_at + rhythm.step + rhythm.delay
    state = _state_by_age(due, now)
    if summary.state != ConnectionState.ACTIVE:
        return Freshness(state, age, None)
    late_at = due + LATE_TOLERANCE
    return Freshness(
        state,
        age,
        next_poll(measured_at, now, rhythm),
        late_at if state == FreshnessState.LIVE else None,
        late_at + GAP_AFTER if state != FreshnessState.GAP else None,
    )


def _select_summary(head: Head, newest_from: str) -> tuple[str, ConnectionSummary | None]:
    """Choose the connection that determines the state: the one of the newest reading, unless only others are active."""
    active = [provider for provider, summary in head.summaries.items() if summary.state == ConnectionState.ACTIVE]
    provider = newest_from if newest_from in active else min(active, default=newest_from)
    return provider, head.summaries.get(provider)


def _state_by_age(expected: datetime, now: datetime) -> FreshnessState:
    late_from = expected + LATE_TOLERANCE
    if now <= late_from:
        return FreshnessState.LIVE
    return FreshnessState.LATE if now <= late_from + GAP_AFTER else FreshnessState.GAP
