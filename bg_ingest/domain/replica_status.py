"""Status of one process, as shown to operators."""

from datetime import datetime

import msgspec

from bg_ingest.domain.ids import ConnectionId


class ActorState(msgspec.Struct, frozen=True):
    """One actor of the process; ``running`` is False while it waits for its restart."""

    name: str
    running: bool
    crashes: int
    """Consecutive crashes; reset after a long run."""


class OwnerState(msgspec.Struct, frozen=True):
    """One process among the owners, as last read."""

    id: str
    shards: int
    leaving: bool


class UpcomingPoll(msgspec.Struct, frozen=True):
    """Next poll of a connection."""

    due: datetime
    connection: ConnectionId


class BudgetState(msgspec.Struct, frozen=True, kw_only=True):
    """Call limit of one app, shared by all processes."""

    provider: str
    region: str
    slowdown: float
    """Factor on the intervals; 1 while the calls cover all demand."""
    wanted_per_second: float
    """Demand of all processes without slowdown."""
    calls: int
    """Calls granted by this process since its start."""
    waiting: int
    """Waiting callers in this process."""
    paused: bool
    """All calls wait, because the provider refused one."""


class ReplicaStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Activity of one process at one instant."""

    owner: str | None
    """Its owner id; None while it has none."""
    state: str
    unready: tuple[str, ...]
    degraded: tuple[str, ...]
    shards: int
    shards_loading: int
    """Owned shards with connections that are not scheduled yet."""
    owners: tuple[OwnerState, ...]
    connections: int
    polls_running: int
    next_polls: tuple[UpcomingPoll, ...]
    budgets: tuple[BudgetState, ...]
    relay_backlog: int
    """Shards known to have changes to publish."""
    relay_failures: int
    """Consecutive failures to publish."""
    actors: tuple[ActorState, ...]
