"""A user's connection to one provider: state, settings and progress."""

from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.schedule import SweepDepth
from bg_ingest.domain.windows import Window


class ConnectionState(StrEnum):
    """State of a connection. A paused one is not polled, but accepts pushes."""

    CONNECTING = "connecting"
    ACTIVE = "active"
    PAUSED = "paused"
    REAUTHORIZATION_REQUIRED = "reauthorization_required"
    PROVIDER_FORBIDDEN = "provider_forbidden"
    DISCONNECTED = "disconnected"


POLLED_STATES = frozenset({ConnectionState.ACTIVE, ConnectionState.PROVIDER_FORBIDDEN})
"""States in which a connection is polled. A forbidden one is polled seldom, and recovers once the operator has
removed the cause."""

PUSHABLE_STATES = frozenset({ConnectionState.ACTIVE, ConnectionState.PAUSED})
"""States in which pushed readings are stored."""

STATES_WITH_GRANT = frozenset(ConnectionState) - {ConnectionState.CONNECTING, ConnectionState.DISCONNECTED}
"""States with a grant. Only in these, the connection has a row in the directory of its shard and one for its provider
account."""

MIN_INTERVAL_SECONDS, MAX_INTERVAL_SECONDS = 60, 86_400
"""Bounds of the poll interval that may be set."""

MAX_BACKFILL_DAYS = 3_650


class WorkerSettings(msgspec.Struct, frozen=True):
    """Settings of one connection (`worker` in the API); None selects the service's default."""

    poll_interval_seconds: int | None = None
    """Shortest time between two polls."""
    paused: bool = False
    backfill_days: int | None = None
    """Length of the backfill, counted back from the newest data that the provider had at the connect."""


class Connection(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Connection as stored. ``generation`` is random per connect: a write based on an earlier connect fails."""

    id: ConnectionId
    state: ConnectionState
    generation: str
    region: str
    app: str
    """Our client id at the provider. A grant of one app is not valid for another."""
    connected_at: datetime
    reason: str | None = None
    """Cause of the state, as a stable identifier."""
    provider_account: str | None = None
    host_region: str | None = None
    """Region that stands for all regions of the provider's host, if they share accounts and calls. None if it equals
    ``region``. See ``Capabilities.host_region``."""
    worker: WorkerSettings = WorkerSettings()
    watermark: datetime | None = None
    """Start of the next window. Earlier data may be incomplete."""
    available: Window | None = None
    """Range of data that the provider reported at the connect."""
    backfill: Window | None = None
    """Part of the backfill that is still to be read; None once all is read. Each fetch reads its newest window."""
    swept_at: datetime | None = None
    """Time of the last sweep; None before the first."""
    repair_at: datetime | None = None
    """Due time of the next repair; None if no missing reading is expected to arrive."""
    suspected_gap_at: datetime | None = None
    """First reading after a suspected gap. The missing readings may still arrive. Cleared once the gap has been
    confirmed or filled."""
    newest_reading_at: datetime | None = None
    cadence_seconds: int | None = None
    """Time between two readings of this sensor, estimated from its readings."""
    delay_seconds: int | None = None
    """Time from a measurement until the provider shows it, learned from polls; None if unknown."""
    last_outcome: str | None = None
    outcome_at: datetime | None = None
    """Time of the last write of ``last_outcome``. An unchanged outcome without new readings is written hourly."""
    epoch: int = 0
    expires_at: datetime | None = None
    """Set only while connecting, so that the store deletes an abandoned connect."""

    @property
    def provider_identity(self) -> tuple[str, str | None]:
        """Region and id of the provider account."""
        return self.host_region or self.region, self.provider_account

    @property
    def accepts_pushes(self) -> bool:
        return self.state in PUSHABLE_STATES

    @property
    def anchor(self) -> datetime:
        """Origin of the grid of polls: the newest reading, or the connect while there is no reading."""
        return self.newest_reading_at or self.connected_at


class PollDefaults(msgspec.Struct, frozen=True):
    """Values for settings that are None in a connection."""

    poll_interval: timedelta = timedelta(minutes=15)
    backfill_days: int = 90
    overlap: timedelta = timedelta(hours=3)
    sweep_depth: SweepDepth = SweepDepth()

    def interval(self, worker: WorkerSettings) -> timedelta:
        seconds = worker.poll_interval_seconds
        return self.poll_interval if seconds is None else timedelta(seconds=seconds)

    def initial_backfill(self, connection: Connection) -> Window | None:
        """Return the window of the first backfill: ``backfill_days`` back from the end of the available data."""
        available = connection.available
        days = connection.worker.backfill_days
        depth = timedelta(days=self.backfill_days if days is None else days)
        return available.newest(depth) if available and depth else None

    def sweep(self, connection: Connection, now: datetime) -> Window | None:
        """Return the window of a due sweep. The time before the initial backfill is excluded: it was never read."""
        depth = self.sweep_depth.due(connection.swept_at or connection.connected_at, now, connection.id.jitter)
        initial = self.initial_backfill(connection)
        begins = initial.start if initial else connection.connected_at
        return Window(now - depth, now).since(begins) if depth else None


class DirectoryRow(msgspec.Struct, frozen=True):
    """Connection as listed in its shard's directory: enough for a process to schedule the first poll that it makes."""

    id: ConnectionId
    poll_interval_seconds: int | None
    paused: bool
