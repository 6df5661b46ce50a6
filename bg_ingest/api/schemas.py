"""Their words: the JSON that goes out and comes in."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import repeat
from typing import Annotated, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from bg_ingest.domain.connections import LONGEST_BACKFILL_DAYS, LONGEST_INTERVAL, SHORTEST_INTERVAL, State
from bg_ingest.domain.events import FullReading, full
from bg_ingest.domain.freshness import Condition, Freshness
from bg_ingest.domain.outcomes import Outcome
from bg_ingest.domain.readings import Recorded
from bg_ingest.services.steer import Status


class BasicReading(msgspec.Struct, frozen=True, gc=False):
    """A reading as charts need it."""

    timestamp: datetime
    glucose_mg_dl: int


class LatestReading(FullReading, frozen=True, kw_only=True):
    """The newest reading with everything, and what to expect next."""

    age_seconds: int
    next_expected_at: datetime | None
    state: Condition


Reading: TypeAlias = BasicReading | FullReading


def basic(rows: Sequence[tuple[int, int]]) -> list[BasicReading]:
    """Return (epoch seconds, mg/dL), of which there is at least one, as readings."""
    seconds, values = zip(*rows, strict=True)  # map, because a range of months makes tens of thousands
    return list(map(BasicReading, map(datetime.fromtimestamp, seconds, repeat(UTC)), values))


def basic_of(recorded: Recorded) -> BasicReading:
    return BasicReading(recorded.reading.measured_at, recorded.reading.glucose_mg_dl)


def whole(rows: Sequence[Recorded]) -> list[FullReading]:
    return [full(row) for row in rows]


def latest_of(newest: Recorded, fresh: Freshness) -> LatestReading:
    return LatestReading(
        **msgspec.structs.asdict(full(newest)),
        age_seconds=fresh.age_seconds,
        next_expected_at=_seconds(fresh.next_expected_at),
        state=fresh.condition,
    )


class ConnectRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which of the provider's regions the person's account is in; its default when absent."""

    region: str | None = None


class Invitation(msgspec.Struct, frozen=True):
    """Where to send the person, and until when."""

    authorize_url: str
    expires_at: datetime


class WorkerChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Any subset; null brings back the service's own default."""

    poll_interval_seconds: Annotated[int, Meta(ge=SHORTEST_INTERVAL, le=LONGEST_INTERVAL)] | UnsetType | None = UNSET
    paused: bool | UnsetType | None = UNSET
    backfill_days: Annotated[int, Meta(ge=0, le=LONGEST_BACKFILL_DAYS)] | UnsetType | None = UNSET


def settings_of(change: WorkerChange) -> dict[str, int | bool | None]:
    """Return the settings that were sent; ``paused`` has no default of the service's, null means going on."""
    sent = {name: value for name, value in msgspec.structs.asdict(change).items() if value is not UNSET}
    return sent | ({"paused": False} if sent.get("paused", False) is None else {})


class Worker(msgspec.Struct, frozen=True):
    """What holds for a connection now, defaults filled in."""

    poll_interval_seconds: int
    paused: bool
    backfill_days: int


class Span(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """A stretch of time, half-open."""

    from_: datetime
    to: datetime


class ConnectionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How one connection is."""

    provider: str
    state: State
    reason: str | None
    region: str
    connected_at: datetime
    newest_reading_at: datetime | None
    last_outcome: str | None
    last_outcome_at: datetime | None
    """When last_outcome was written: at a change of its kind, and hourly while polls bring nothing."""
    next_poll_at: datetime | None
    backfill_done: float | None
    """From 0 to 1; null while it is not known how much there is."""
    backfill_left: Span | None
    """What is still to be read of the past, newest first."""
    worker: Worker


def status_of(status: Status) -> ConnectionStatus:
    connection = status.connection
    return ConnectionStatus(
        provider=connection.id.provider,
        state=connection.state,
        reason=connection.reason,
        region=connection.region,
        connected_at=connection.connected_at.replace(microsecond=0),
        newest_reading_at=connection.newest_reading_at,
        last_outcome=connection.last_outcome,
        last_outcome_at=_seconds(connection.outcome_at),
        next_poll_at=_seconds(status.next_poll_at),
        backfill_done=status.backfill_done,
        backfill_left=Span(connection.backfill.start, connection.backfill.end) if connection.backfill else None,
        worker=Worker(status.poll_interval_seconds, connection.worker.paused, status.backfill_days),
    )


class Received(msgspec.Struct, frozen=True):
    """What came of a webhook's records; only those counted as quarantined could not be read."""

    stored: int
    duplicates: int = 0
    revised: int = 0
    quarantined: int = 0


def received_of(outcome: Outcome) -> Received:
    return Received(outcome.recorded, outcome.duplicates, outcome.revised, outcome.quarantined)


def _seconds(instant: datetime | None) -> datetime | None:
    return instant.replace(microsecond=0) if instant else None
