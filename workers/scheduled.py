"""Scheduled connections of this process, indexed by connection and by shard."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Protocol

import msgspec

from bg_ingest.domain.call_budget import CallDemand
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.polling import Outcome, PollState
from workers.wakeup import RunningTask

INITIAL_STATE = PollState()
"""State before the first poll of a connection."""


class PollListener(Protocol):
    """Receiver of events of the scheduler; each call returns at once."""

    def demand_changed(self, before: CallDemand | None, after: CallDemand | None) -> None:
        """Replace the demand of a connection by another; None stands for a connection that is not scheduled."""

    def poll_finished(self, connection: ConnectionId, outcome: Outcome, *, request_done: bool) -> None:
        """Record an outcome; ``request_done`` means that requests from before the poll are satisfied."""


class Scheduled(msgspec.Struct, eq=False, gc=False):
    """A connection with a due time in this process.

    There may be 100,000. They hold no reference cycles and are exempt from garbage collection, because a collection
    that visited them stopped the event loop.
    """

    shard: int
    epoch: int
    due: datetime
    poll_state: PollState = INITIAL_STATE
    requested: bool = False
    requested_poll_at: float = float("-inf")
    """Start of the last requested poll, on the clock of the event loop."""
    running_poll: RunningTask | None = None
    crashes: int = 0
    demand: CallDemand | None = None


class ScheduledConnections:
    """All scheduled connections. The index by shard makes the removal of many shards cheap."""

    def __init__(self) -> None:
        self._by_connection: dict[ConnectionId, Scheduled] = {}
        self._by_shard: defaultdict[int, set[ConnectionId]] = defaultdict(set)

    @property
    def all(self) -> Mapping[ConnectionId, Scheduled]:
        return self._by_connection

    def in_shards(self, shards: Collection[int]) -> list[ConnectionId]:
        return [connection for shard in shards for connection in self._by_shard.get(shard, ())]

    def add(self, connection: ConnectionId, scheduled: Scheduled) -> Scheduled:
        self._by_connection[connection] = scheduled
        self._by_shard[scheduled.shard].add(connection)
        return scheduled

    def remove(self, connection: ConnectionId) -> Scheduled:
        scheduled = self._by_connection.pop(connection)
        remaining = self._by_shard[scheduled.shard]
        remaining.remove(connection)
        if not remaining:
            del self._by_shard[scheduled.shard]
        return scheduled
