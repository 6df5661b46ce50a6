"""What happened to a connection lately and what comes next: the answer to "why is this user late?"."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from bg_ingest.domain.changes import (
    Change,
    ConnectionChanged,
    GapHealed,
    GapOpened,
    ReadingsRecorded,
    ReadingsRevised,
)
from bg_ingest.domain.connections import POLLED_STATES, Connection, ConnectionState
from bg_ingest.domain.grants import Grant
from bg_ingest.domain.polling import NextPollReason, PollReport, PollResult
from bg_ingest.domain.readings import Origin
from bg_ingest.domain.schedule import Rhythm, next_poll


class TimelineKind(StrEnum):
    """The kinds of moments."""

    CONNECTED = "connected"
    POLLED = "polled"
    """A turn that asked the provider; known to the replica that polls, and only lately."""
    WEBHOOK = "webhook"
    """A webhook; known to the replica that took it, and only lately."""
    RECORDED = "recorded"
    REVISED = "revised"
    STATE = "state"
    GAP_OPENED = "gap_opened"
    GAP_HEALED = "gap_healed"
    REFRESHED = "refreshed"
    REFUSED = "refused"
    """The provider refused the refresh token; it is tried again by plan."""


class TimelineEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened."""

    at: datetime
    kind: TimelineKind
    origin: Origin | None = None
    """Which look, or a push (webhook)."""
    outcome: str | None = None
    readings: int | None = None
    detail: str | None = None
    """A state, a reason, a cause: a stable word."""


class NextPoll(msgspec.Struct, frozen=True):
    """When the connection is looked at next; never, where ``at`` is None, and ``why`` is then its state."""

    at: datetime | None
    reason: str
    failures: int = 0
    """Turns in a row that failed."""


class Timeline(msgspec.Struct, frozen=True):
    """Moments, the latest first."""

    connection: Connection
    next: NextPoll
    events: tuple[TimelineEvent, ...]
    polled_here: bool
    """Whether this replica polls it and therefore knows of looks and refreshes that changed nothing else."""


def poll_event(report: PollReport, at: datetime) -> TimelineEvent:
    """Return the moment of a turn."""
    result = report.result
    return TimelineEvent(
        at=at,
        kind=TimelineKind.POLLED,
        origin=report.origin,
        outcome=result.outcome,
        readings=result.recorded + result.revised,
    )


def webhook_event(result: PollResult | None, at: datetime) -> TimelineEvent:
    """Return the moment of a webhook; without an outcome it had been received before."""
    if result is None:
        return TimelineEvent(at=at, kind=TimelineKind.WEBHOOK, origin=Origin.WEBHOOK, outcome="duplicate", readings=0)
    brought = result.recorded + result.revised
    return TimelineEvent(
        at=at, kind=TimelineKind.WEBHOOK, origin=Origin.WEBHOOK, outcome=result.outcome, readings=brought
    )


def grant_event(grant: Grant, at: datetime) -> TimelineEvent:
    """Return the moment at which this was stored of a grant: that the provider renewed it, or refused to."""
    if grant.retry_at is None:
        return TimelineEvent(at=grant.refreshed_at, kind=TimelineKind.REFRESHED)
    return _refusal_event(grant, at)


def change_event(change: Change, provider: str) -> TimelineEvent | None:
    """Return the moment of a change, if it is about this provider's connection."""
    at = change.recorded_at
    match change.data:
        case ReadingsRecorded(name, origin, readings) if name == provider:
            return TimelineEvent(at=at, kind=TimelineKind.RECORDED, origin=origin, readings=len(readings))
        case ReadingsRevised(name, origin, readings) if name == provider:
            return TimelineEvent(at=at, kind=TimelineKind.REVISED, origin=origin, readings=len(readings))
        case ConnectionChanged(name, state, reason) if name == provider:
            return TimelineEvent(at=at, kind=TimelineKind.STATE, outcome=state, detail=reason)
        case GapOpened(name, gap) if name == provider:
            return TimelineEvent(at=at, kind=TimelineKind.GAP_OPENED, detail=gap.cause)
        case GapHealed(name, gap) if name == provider:
            return TimelineEvent(at=at, kind=TimelineKind.GAP_HEALED, detail=gap.cause)
    return None


def stored_events(connection: Connection, grant: Grant | None, seen: Sequence[TimelineEvent]) -> list[TimelineEvent]:
    """Return what the rows themselves tell, whichever replica reads them, beyond what was ``seen`` here."""
    kinds = {each.kind for each in seen}
    found = [TimelineEvent(at=connection.connected_at, kind=TimelineKind.CONNECTED, detail=connection.region)]
    if connection.outcome_at is not None and TimelineKind.POLLED not in kinds:
        found.append(TimelineEvent(at=connection.outcome_at, kind=TimelineKind.POLLED, outcome=connection.last_outcome))
    if grant is not None and not any(_is_refresh(each, grant.refreshed_at) for each in seen):
        found.append(TimelineEvent(at=grant.refreshed_at, kind=TimelineKind.REFRESHED))
    if grant is not None and grant.refusals and TimelineKind.REFUSED not in kinds:
        found.append(_refusal_event(grant, connection.outcome_at or grant.refreshed_at))
    return found


def _is_refresh(event: TimelineEvent, at: datetime) -> bool:
    """Tell whether it is the one of which a row tells, where instants are kept to the millisecond."""
    return event.kind is TimelineKind.REFRESHED and abs(event.at - at) < timedelta(milliseconds=1)


def _refusal_event(grant: Grant, at: datetime) -> TimelineEvent:
    return TimelineEvent(at=at, kind=TimelineKind.REFUSED, detail=f"{grant.refusals} times in a row")


def next_scheduled_poll(connection: Connection, rhythm: Rhythm, now: datetime) -> NextPoll:
    """Return what any replica can tell of the next look, from the row alone."""
    if connection.state not in POLLED_STATES:
        return NextPoll(None, connection.state)
    if connection.state is ConnectionState.PROVIDER_FORBIDDEN:
        return NextPoll(None, NextPollReason.RETRY)
    if connection.backfill is not None:
        return NextPoll(now, NextPollReason.BACKFILL)
    expected = now < rhythm.first_slot(connection.anchor)
    return NextPoll(
        next_poll(connection.anchor, now, rhythm), NextPollReason.SLOT if expected else NextPollReason.SILENCE
    )
