"""Whether a user's readings come as they should: what a dashboard shows beside the newest value."""

from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from bg_ingest.domain.commits import Head, Standing
from bg_ingest.domain.connections import State
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.readings import Recorded
from bg_ingest.domain.schedule import SPREAD, Rhythm, next_poll

SLACK = SPREAD + timedelta(minutes=1)
"""For the spread of polls and the poll itself: a provider that takes its time to answer makes no reading late."""

GAP_AFTER = timedelta(hours=1)
"""How long an expected reading stays late: most times out of the phone's reach are over by then."""


class Condition(StrEnum):
    """How it stands with a user's readings."""

    LIVE = "live"
    LATE = "late"
    GAP = "gap"
    REAUTHORIZATION_REQUIRED = "reauthorization_required"
    PAUSED = "paused"


_SAID_BY_STATE = {
    State.PAUSED: Condition.PAUSED,
    State.REAUTHORIZATION_REQUIRED: Condition.REAUTHORIZATION_REQUIRED,
}


class Freshness(msgspec.Struct, frozen=True):
    """What follows from the head and the time alone, so that every replica says the same."""

    condition: Condition
    age_seconds: int
    next_expected_at: datetime | None
    """When we look next; None while nobody looks."""


def freshness(head: Head, newest: Recorded, now: datetime) -> Freshness:
    """Tell how old the newest reading is and what to expect.

    Live until the reading after it should be here (its slot, the provider's delay and SLACK), then late, and
    GAP_AFTER beyond that a gap. A connection that is paused, or that the person must renew, says so instead. One
    that is forbidden, disconnected or gone promises nothing, and age alone speaks.
    """
    measured_at = newest.reading.measured_at
    age = max(0, int((now - measured_at).total_seconds()))
    provider, standing = _speaking(head, newest.reading.device.provider)
    if standing is None:
        return Freshness(_by_age(measured_at, now), age, None)
    rhythm = Rhythm(
        timedelta(seconds=standing.interval_seconds),
        timedelta(seconds=standing.cadence_seconds),
        timedelta(seconds=standing.delay_seconds),
        ConnectionId(head.user, provider).jitter,
    )
    by_age = _by_age(measured_at + rhythm.step + rhythm.delay, now)
    expected = next_poll(measured_at, now, rhythm) if standing.state == State.ACTIVE else None
    return Freshness(_SAID_BY_STATE.get(standing.state, by_age), age, expected)


def _speaking(head: Head, own: str) -> tuple[str, Standing | None]:
    """Choose the connection that speaks for the user: the newest reading's own, unless only another is active."""
    active = [provider for provider, standing in head.standings.items() if standing.state == State.ACTIVE]
    provider = own if own in active else min(active, default=own)
    return provider, head.standings.get(provider)


def _by_age(expected: datetime, now: datetime) -> Condition:
    late_from = expected + SLACK
    if now <= late_from:
        return Condition.LIVE
    return Condition.LATE if now <= late_from + GAP_AFTER else Condition.GAP
