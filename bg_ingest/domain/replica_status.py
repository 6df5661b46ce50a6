"""Status of one process, as shown to operators."""

from datetime import datetime
from enum import StrEnum

import msgspec


class BrokerState(StrEnum):
    """State of the connection to the broker. A refusal lasts until an operator acts."""

    CONNECTED = "connected"
    UNREACHABLE = "unreachable"
    LOGIN_REFUSED = "login_refused"
    EXCHANGE_REFUSED = "exchange_refused"
    QUEUE_REFUSED = "queue_refused"
    PUBLISH_REFUSED = "publish_refused"

    @property
    def is_refused(self) -> bool:
        return self not in {BrokerState.CONNECTED, BrokerState.UNREACHABLE}


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
    due: datetime
    connection: str
    """User id and provider with a slash between."""


class ConnectionCounts(msgspec.Struct, frozen=True):
    """Connections polled by this process."""

    polled: int
    polls_running: int
    next_polls: tuple[UpcomingPoll, ...]


class ShardCounts(msgspec.Struct, frozen=True):
    owned: int
    loading: int
    """Owned shards whose connections are not scheduled yet."""


class RelayCounts(msgspec.Struct, frozen=True):
    """State of the outbox relay of this process."""

    backlog_shards: int
    """Shards that are known to have changes to publish."""
    failures: int
    """Consecutive failures to publish."""


class BudgetState(msgspec.Struct, frozen=True, kw_only=True):
    """Call limit of one app, shared by all processes."""

    provider: str
    region: str
    slowdown: float
    """Factor on poll intervals; 1 while the limit covers all demand."""
    wanted_per_second: float
    """Demand of all processes without slowdown."""
    calls: int
    """Calls granted by this process since its start."""
    waiting: int
    """Waiting callers in this process."""
    paused: bool
    """All calls wait, because the provider refused one."""


class ReplicaStatus(msgspec.Struct, frozen=True, kw_only=True):
    """State of one process at one instant: the answer of `/api/workers`."""

    owner: str | None
    """Owner id of the process; None while it is not registered."""
    state: str
    unready: tuple[str, ...]
    degraded: tuple[str, ...]
    shards: ShardCounts
    owners: tuple[OwnerState, ...]
    connections: ConnectionCounts
    budgets: tuple[BudgetState, ...]
    relay: RelayCounts
    actors: tuple[ActorState, ...]
