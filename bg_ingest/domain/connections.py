"""One user's link to one provider: its state, its settings, and how far its reading has come."""

from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.schedule import SweepDepth
from bg_ingest.domain.windows import Window


class ConnectionState(StrEnum):
    """Where a connection stands. A paused one is not polled, but takes what is pushed."""

    CONNECTING = "connecting"
    ACTIVE = "active"
    PAUSED = "paused"
    REAUTHORIZATION_REQUIRED = "reauthorization_required"
    PROVIDER_FORBIDDEN = "provider_forbidden"
    DISCONNECTED = "disconnected"


POLLED_STATES = frozenset({ConnectionState.ACTIVE, ConnectionState.PROVIDER_FORBIDDEN})
"""A forbidden connection is looked at now and then: once the operator has mended it, it goes on by itself."""

MIN_INTERVAL_SECONDS, MAX_INTERVAL_SECONDS = 60, 86_400
"""Seconds between polls that may be asked for."""

MAX_BACKFILL_DAYS = 3_650


class WorkerSettings(msgspec.Struct, frozen=True):
    """What an operator may set for one connection; None means the service's own default."""

    poll_interval_seconds: int | None = None
    """The shortest time between two polls."""
    paused: bool = False
    backfill_days: int | None = None
    """How far back to read, counted from the newer end of what the provider has."""


class Connection(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A connection as stored. ``generation`` is random per connect: what was decided before a reconnect is void."""

    id: ConnectionId
    state: ConnectionState
    generation: str
    region: str
    app: str
    """Our client id at the provider: a grant of one app is worth nothing to another."""
    connected_at: datetime
    reason: str | None = None
    """Why it is in this state, a stable word."""
    provider_account: str | None = None
    worker: WorkerSettings = WorkerSettings()
    watermark: datetime | None = None
    """Where the next window starts. It promises nothing about what is before it."""
    available: Window | None = None
    """What the provider said it had when the connection was made."""
    backfill: Window | None = None
    """What is still to be read of the past, newest part first; None when all has been read."""
    swept_at: datetime | None = None
    """When the past was last read again, for what came late; None until the first time."""
    repair_at: datetime | None = None
    """When to ask again for what is missing; None while nothing is that could still come."""
    suspected_gap_at: datetime | None = None
    """The first reading before which something seems to lack, until that is judged: it may still be on its way."""
    newest_reading_at: datetime | None = None
    cadence_seconds: int | None = None
    """How often this sensor has a reading, learned from its readings."""
    last_outcome: str | None = None
    outcome_at: datetime | None = None
    """When last_outcome was written: at a change of its kind, and hourly while polls bring nothing."""
    epoch: int = 0
    expires_at: datetime | None = None
    """Only while connecting: an abandoned connect goes away by itself."""

    @property
    def accepts_pushes(self) -> bool:
        return self.state in (ConnectionState.ACTIVE, ConnectionState.PAUSED)

    @property
    def anchor(self) -> datetime:
        """Where the grid of its polls hangs: the newest reading, or the connect while there is none."""
        return self.newest_reading_at or self.connected_at


class PollDefaults(msgspec.Struct, frozen=True):
    """What holds where a connection's own settings are silent."""

    poll_interval: timedelta = timedelta(minutes=15)
    backfill_days: int = 90
    overlap: timedelta = timedelta(hours=3)
    sweep_depth: SweepDepth = SweepDepth()

    def interval(self, worker: WorkerSettings) -> timedelta:
        if worker.poll_interval_seconds is None:
            return self.poll_interval
        return timedelta(seconds=worker.poll_interval_seconds)

    def initial_backfill(self, connection: Connection) -> Window | None:
        """Return what the first backfill is to read: so many days back from the newer end."""
        available = connection.available
        days = connection.worker.backfill_days
        depth = timedelta(days=self.backfill_days if days is None else days)
        return available.newest(depth) if available and depth else None

    def sweep(self, connection: Connection, now: datetime) -> Window | None:
        """Return what a sweep that is due reads again: never what lies before the wanted past, nor what is unread."""
        jitter = connection.id.jitter
        depth = self.sweep_depth.due(connection.swept_at or connection.connected_at, now, jitter)
        initial = self.initial_backfill(connection)
        begins = initial.start if initial else connection.connected_at
        return Window(now - depth, now).since(begins) if depth else None


class DirectoryRow(msgspec.Struct, frozen=True):
    """A connection as its shard's directory lists it: enough to plan its first look."""

    id: ConnectionId
    poll_interval_seconds: int | None
    paused: bool
