"""Recent events of a connection and its next poll. They explain late readings of a user."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from bg_ingest.domain.changes import Change, ConnectionChanged, GapHealed, GapOpened, ReadingsRecorded, ReadingsRevised
from bg_ingest.domain.connections import POLLED_STATES, Connection, ConnectionState
from bg_ingest.domain.grants import Grant
from bg_ingest.domain.polling import NextPollReason, PollReport, PollResult
from bg_ingest.domain.readings import Origin
from bg_ingest.domain.schedule import Rhythm, next_poll


class TimelineKind(StrEnum):
    CONNECTED = "connected"
    POLLED = "polled"
    """A poll with a fetch. The polling replica keeps its latest polls in memory. Other replicas show only the stored
    outcome of the last poll."""
    WEBHOOK = "webhook"
    """A webhook. Only the replica that received it shows it, from memory."""
    RECORDED = "recorded"
    REVISED = "revised"
    STATE = "state"
    GAP_OPENED = "gap_opened"
    GAP_HEALED = "gap_healed"
    REFRESHED = "refreshed"
    REFUSED = "refused"
    """The provider refused the grant. A retry follows after each of `REFUSAL_RETRY_DELAYS`; the refusal of the last
    retry is final."""


class TimelineEvent(msgspec.Struct, frozen=True, kw_only=True):
    at: datetime
    kind: TimelineKind
    origin: Origin | None = None
    """Origin of the fetched window, or of the recorded or revised readings; ``webhook`` for a push."""
    outcome: str | None = None
    readings: int | None = None
    detail: str | None = None
    """The region of a connect, the reason of a state, the cause of a gap, or the number of refusals in a row."""


class NextPoll(msgspec.Struct, frozen=True):
    """Next poll. ``at`` is None if no poll follows (``reason`` is then the state) or its time is unknown."""

    at: datetime | None
    reason: str
    failures: int = 0
    """Consecutive failed polls."""


class Timeline(msgspec.Struct, frozen=True):
    """Events, latest first."""

    connection: Connection
    next: NextPoll
    events: tuple[TimelineEvent, ...]
    polled_here: bool
    """True if this replica polls the connection. Events then include recent polls and refreshes, not only the last of
    each."""


def poll_event(report: PollReport, at: datetime) -> TimelineEvent:
    result, kind = report.result, TimelineKind.POLLED
    readings = result.recorded + result.revised
    return TimelineEvent(at=at, kind=kind, origin=report.origin, outcome=result.outcome, readings=readings)


def webhook_event(result: PollResult | None, at: datetime) -> TimelineEvent:
    """Return the event of a webhook. A webhook without a result is a duplicate."""
    outcome, readings = (result.outcome, result.recorded + result.revised) if result else ("duplicate", 0)
    return TimelineEvent(at=at, kind=TimelineKind.WEBHOOK, origin=Origin.WEBHOOK, outcome=outcome, readings=readings)


def grant_event(grant: Grant, at: datetime) -> TimelineEvent:
    """Return the event of the last write of a grant: its renewal, or a refusal by the provider."""
    if grant.retry_at is None:
        return TimelineEvent(at=grant.refreshed_at, kind=TimelineKind.REFRESHED)
    return _refusal_event(grant, at)


def change_event(change: Change, provider: str) -> TimelineEvent | None:
    """Return the event of a change; None if it concerns another provider."""
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
    """Return the events that any replica can read from stored rows, except those ``seen`` in this process.

    A row has only the last event of its kind. If all seen events of this kind are older, another replica wrote the row.
    """
    stored = [TimelineEvent(at=connection.connected_at, kind=TimelineKind.CONNECTED, detail=connection.region)]
    if connection.outcome_at is not None:
        outcome = connection.last_outcome
        stored.append(TimelineEvent(at=connection.outcome_at, kind=TimelineKind.POLLED, outcome=outcome))
    if grant is not None:
        stored.append(TimelineEvent(at=grant.refreshed_at, kind=TimelineKind.REFRESHED))
    if grant is not None and grant.refused_at is not None:
        stored.append(_refusal_event(grant, grant.refused_at))
    return [event for event in stored if not any(_is_as_late(other, event) for other in seen)]


def _is_as_late(seen: TimelineEvent, stored: TimelineEvent) -> bool:
    """Return True for an event of the same kind that is not older. Stored times are in whole milliseconds."""
    return seen.kind is stored.kind and seen.at > stored.at - timedelta(milliseconds=1)


def _refusal_event(grant: Grant, at: datetime) -> TimelineEvent:
    return TimelineEvent(at=at, kind=TimelineKind.REFUSED, detail=f"{grant.refusals} times in a row")


def next_scheduled_poll(connection: Connection, rhythm: Rhythm, now: datetime) -> NextPoll:
    """Return the next poll as any replica can compute it: from the row of the connection alone."""
    if connection.state not in POLLED_STATES:
        return NextPoll(None, connection.state)
    if connection.state is ConnectionState.PROVIDER_FORBIDDEN:
        return NextPoll(None, NextPollReason.RETRY)
    if connection.backfill is not None:
        return NextPoll(now, NextPollReason.MORE_TO_READ)
    reason = NextPollReason.SLOT if now < rhythm.first_slot(connection.anchor) else NextPollReason.SILENCE
    return NextPoll(next_poll(connection.anchor, now, rhythm), reason)
