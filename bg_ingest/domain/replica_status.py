"""How a process is: what an operator is shown when they ask what it does."""

from datetime import datetime

import msgspec

from bg_ingest.domain.ids import ConnectionId


class ActorState(msgspec.Struct, frozen=True):
    """One actor of the process; ``running`` is false while it waits to be started again."""

    name: str
    running: bool
    crashes: int
    """In a row; forgotten after a long run."""


class OwnerState(msgspec.Struct, frozen=True):
    """A process among the owners, as the last look found it."""

    id: str
    shards: int
    leaving: bool


class UpcomingPoll(msgspec.Struct, frozen=True):
    """A connection's next turn."""

    due: datetime
    connection: ConnectionId


class BudgetState(msgspec.Struct, frozen=True, kw_only=True):
    """The calls of one app, of which all processes together may make so many."""

    provider: str
    region: str
    slowdown: float
    """By what intervals are longer than asked for; 1 where the calls do for everybody."""
    wanted_per_second: float
    """Calls that all processes want, were nothing stretched."""
    calls: int
    """Given out here since the start."""
    waiting: int
    """Callers here."""
    paused: bool
    """Nobody may call: the provider refused one."""


class ReplicaStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What one process does, at one moment."""

    owner: str | None
    """Its name among the owners; None while it has none."""
    state: str
    unready: tuple[str, ...]
    degraded: tuple[str, ...]
    shards: int
    shards_loading: int
    """Owned, their connections not seated yet."""
    owners: tuple[OwnerState, ...]
    connections: int
    polls_running: int
    next_polls: tuple[UpcomingPoll, ...]
    budgets: tuple[BudgetState, ...]
    relay_backlog: int
    """Shards known to have something to tell."""
    relay_failures: int
    """Times in a row that telling did not succeed."""
    actors: tuple[ActorState, ...]
