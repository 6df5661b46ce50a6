"""Public JSON: the bodies of answers and requests, and their mapping from and to domain values."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from bg_ingest.domain.cloud_events import FullReading, public_reading
from bg_ingest.domain.connections import MAX_BACKFILL_DAYS, MAX_INTERVAL_SECONDS, MIN_INTERVAL_SECONDS, ConnectionState
from bg_ingest.domain.freshness import Freshness, FreshnessState
from bg_ingest.domain.reading_versions import ReadingVersion
from bg_ingest.domain.readings import StoredReading
from bg_ingest.services.connections.manage import Status


class BasicReading(msgspec.Struct, frozen=True, gc=False):
    """A reading for charts."""

    timestamp: datetime
    glucose_mg_dl: int


class LatestReading(FullReading, frozen=True, kw_only=True):
    """The newest reading with all fields, its age and the expected time of the next one."""

    age_seconds: int
    next_expected_at: datetime | None
    state: FreshnessState
    late_at: datetime | None
    gap_at: datetime | None


class VersionedReading(FullReading, frozen=True, kw_only=True):
    """One value of a reading, with the time and change that replaced it; null on the current value."""

    superseded_at: datetime | None
    superseded_by: int | None


def to_basic_one(recorded: StoredReading) -> BasicReading:
    return BasicReading(recorded.reading.measured_at, recorded.reading.glucose_mg_dl)


def to_full(rows: Sequence[StoredReading]) -> list[FullReading]:
    return [public_reading(row) for row in rows]


def to_versions(rows: Sequence[ReadingVersion]) -> list[VersionedReading]:
    return [
        VersionedReading(
            **msgspec.structs.asdict(public_reading(row.stored)),
            superseded_at=row.superseded_at,
            superseded_by=row.superseded_by,
        )
        for row in rows
    ]


def to_latest(newest: StoredReading, freshness: Freshness) -> LatestReading:
    return LatestReading(
        **msgspec.structs.asdict(public_reading(newest)),
        age_seconds=freshness.age_seconds,
        next_expected_at=_whole_seconds_or_none(freshness.next_expected_at),
        state=freshness.state,
        late_at=_whole_seconds_or_none(freshness.late_at),
        gap_at=_whole_seconds_or_none(freshness.gap_at),
    )


class ConnectRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Region of the person's account at the provider; the configured default if absent."""

    region: str | None = None


class Invitation(msgspec.Struct, frozen=True):
    """Address to send the person to, and its expiry."""

    authorize_url: str
    expires_at: datetime


_PollInterval = Annotated[int, Meta(ge=MIN_INTERVAL_SECONDS, le=MAX_INTERVAL_SECONDS)]


class WorkerChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Changed settings; null restores the default of the service."""

    poll_interval_seconds: _PollInterval | UnsetType | None = UNSET
    paused: bool | UnsetType | None = UNSET
    backfill_days: Annotated[int, Meta(ge=0, le=MAX_BACKFILL_DAYS)] | UnsetType | None = UNSET


def to_settings(change: WorkerChange) -> dict[str, int | bool | None]:
    """Return the settings that were sent. The service has no default of `paused`: null becomes False."""
    sent = {name: value for name, value in msgspec.structs.asdict(change).items() if value is not UNSET}
    return sent | ({"paused": False} if sent.get("paused", False) is None else {})


class Worker(msgspec.Struct, frozen=True):
    """Settings in force for a connection, defaults included."""

    poll_interval_seconds: int
    paused: bool
    backfill_days: int


class Span(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """A half-open window of time."""

    from_: datetime
    to: datetime


class ConnectionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """State, progress and settings of a connection."""

    provider: str
    state: ConnectionState
    reason: str | None
    region: str
    connected_at: datetime
    newest_reading_at: datetime | None
    last_outcome: str | None
    last_outcome_at: datetime | None
    """Time at which last_outcome was written: after a poll with new readings, when it changes, and otherwise hourly."""
    next_poll_at: datetime | None
    observed_delay_seconds: int | None
    """Time from a measurement until the provider shows it, learned from polls; null if unknown."""
    backfill_done: float | None
    """From 0 to 1; null while the total is unknown."""
    backfill_left: Span | None
    """Part of the backfill that is still to be read, newest first."""
    worker: Worker


def to_status(status: Status) -> ConnectionStatus:
    connection = status.connection
    return ConnectionStatus(
        provider=connection.id.provider,
        state=connection.state,
        reason=connection.reason,
        region=connection.region,
        connected_at=whole_seconds(connection.connected_at),
        newest_reading_at=connection.newest_reading_at,
        last_outcome=connection.last_outcome,
        last_outcome_at=_whole_seconds_or_none(connection.outcome_at),
        next_poll_at=_whole_seconds_or_none(status.next_poll_at),
        observed_delay_seconds=connection.delay_seconds,
        backfill_done=status.backfill_done,
        backfill_left=Span(connection.backfill.start, connection.backfill.end) if connection.backfill else None,
        worker=Worker(status.poll_interval_seconds, connection.worker.paused, status.backfill_days),
    )


class WebhookResult(msgspec.Struct, frozen=True):
    """Numbers of a webhook's records by result. `quarantined` records could not be read; all others could."""

    stored: int
    duplicates: int = 0
    revised: int = 0
    quarantined: int = 0


def whole_seconds(instant: datetime) -> datetime:
    return instant.replace(microsecond=0)


def _whole_seconds_or_none(instant: datetime | None) -> datetime | None:
    return whole_seconds(instant) if instant else None
