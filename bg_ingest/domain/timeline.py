"""What happened to a connection lately and what comes next: the answer to "why is this user late?"."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from bg_ingest.domain.connections import POLLED, Connection, State
from bg_ingest.domain.events import Change, ConnectionChanged, GapHealed, GapOpened, ReadingsRecorded, ReadingsRevised
from bg_ingest.domain.grants import Grant
from bg_ingest.domain.outcomes import Outcome
from bg_ingest.domain.readings import Origin
from bg_ingest.domain.schedule import Rhythm, next_poll
from bg_ingest.domain.turns import Turn, Why


class What(StrEnum):
    """The kinds of moments."""

    CONNECTED = "connected"
    LOOKED = "looked"
    """A turn that asked the provider; known to the replica that polls, and only lately."""
    PUSHED = "pushed"
    """A webhook; known to the replica that took it, and only lately."""
    RECORDED = "recorded"
    REVISED = "revised"
    STATE = "state"
    GAP_OPENED = "gap_opened"
    GAP_HEALED = "gap_healed"
    REFRESHED = "refreshed"
    REFUSED = "refused"
    """The provider refused the refresh token; it is tried again by plan."""


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened."""

    at: datetime
    what: What
    origin: Origin | None = None
    """Which look, or a push (webhook)."""
    outcome: str | None = None
    readings: int | None = None
    detail: str | None = None
    """A state, a reason, a cause: a stable word."""


class Next(msgspec.Struct, frozen=True):
    """When the connection is looked at next; never, where ``at`` is None, and ``why`` is then its state."""

    at: datetime | None
    why: str
    failures: int = 0
    """Turns in a row that failed."""


class Timeline(msgspec.Struct, frozen=True):
    """Moments, the latest first."""

    connection: Connection
    next: Next
    moments: tuple[Moment, ...]
    polled_here: bool
    """Whether this replica polls it and therefore knows of looks and refreshes that changed nothing else."""


def looked(turn: Turn, at: datetime) -> Moment:
    """Return the moment of a turn."""
    outcome = turn.outcome
    return Moment(
        at=at,
        what=What.LOOKED,
        origin=turn.origin,
        outcome=outcome.ending,
        readings=outcome.recorded + outcome.revised,
    )


def pushed(outcome: Outcome | None, at: datetime) -> Moment:
    """Return the moment of a webhook; without an outcome it had been received before."""
    if outcome is None:
        return Moment(at=at, what=What.PUSHED, origin=Origin.WEBHOOK, outcome="duplicate", readings=0)
    brought = outcome.recorded + outcome.revised
    return Moment(at=at, what=What.PUSHED, origin=Origin.WEBHOOK, outcome=outcome.ending, readings=brought)


def of_grant(grant: Grant, at: datetime) -> Moment:
    """Return the moment at which this was stored of a grant: that the provider renewed it, or refused to."""
    if grant.retry_at is None:
        return Moment(at=grant.refreshed_at, what=What.REFRESHED)
    return _refused(grant, at)


def of_change(change: Change, provider: str) -> Moment | None:
    """Return the moment of a change, if it is about this provider's connection."""
    at = change.recorded_at
    match change.what:
        case ReadingsRecorded(name, origin, readings) if name == provider:
            return Moment(at=at, what=What.RECORDED, origin=origin, readings=len(readings))
        case ReadingsRevised(name, origin, readings) if name == provider:
            return Moment(at=at, what=What.REVISED, origin=origin, readings=len(readings))
        case ConnectionChanged(name, state, reason) if name == provider:
            return Moment(at=at, what=What.STATE, outcome=state, detail=reason)
        case GapOpened(name, gap) if name == provider:
            return Moment(at=at, what=What.GAP_OPENED, detail=gap.cause)
        case GapHealed(name, gap) if name == provider:
            return Moment(at=at, what=What.GAP_HEALED, detail=gap.cause)
    return None


def of_rows(connection: Connection, grant: Grant | None, seen: Sequence[Moment]) -> list[Moment]:
    """Return what the rows themselves tell, whichever replica reads them, beyond what was ``seen`` here."""
    kinds = {each.what for each in seen}
    found = [Moment(at=connection.connected_at, what=What.CONNECTED, detail=connection.region)]
    if connection.outcome_at is not None and What.LOOKED not in kinds:
        found.append(Moment(at=connection.outcome_at, what=What.LOOKED, outcome=connection.last_outcome))
    if grant is not None and not any(_is_refresh(each, grant.refreshed_at) for each in seen):
        found.append(Moment(at=grant.refreshed_at, what=What.REFRESHED))
    if grant is not None and grant.refusals and What.REFUSED not in kinds:
        found.append(_refused(grant, connection.outcome_at or grant.refreshed_at))
    return found


def _is_refresh(moment: Moment, at: datetime) -> bool:
    """Tell whether it is the one of which a row tells, where instants are kept to the millisecond."""
    return moment.what is What.REFRESHED and abs(moment.at - at) < timedelta(milliseconds=1)


def _refused(grant: Grant, at: datetime) -> Moment:
    return Moment(at=at, what=What.REFUSED, detail=f"{grant.refusals} times in a row")


def by_schedule(connection: Connection, rhythm: Rhythm, now: datetime) -> Next:
    """Return what any replica can tell of the next look, from the row alone."""
    if connection.state not in POLLED:
        return Next(None, connection.state)
    if connection.state is State.PROVIDER_FORBIDDEN:
        return Next(None, Why.RETRY)
    if connection.backfill is not None:
        return Next(now, Why.PAST)
    expected = now < rhythm.first_slot(connection.anchor)
    return Next(next_poll(connection.anchor, now, rhythm), Why.SLOT if expected else Why.SILENCE)
