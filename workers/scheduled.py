"""Who awaits turns in this process, found by connection and by shard."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import datetime

import anyio
import msgspec

from bg_ingest.domain.call_budget import CallDemand
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.polling import PollState

INITIAL_STATE = PollState()
"""What the first turn of a connection goes by."""


class RunningPoll:
    """A turn that runs now."""

    def __init__(self, shard: int) -> None:
        self.shard = shard
        self.scope = anyio.CancelScope()
        self.finished = anyio.Event()


class Scheduled(msgspec.Struct, eq=False, gc=False):
    """A connection that awaits its turns here.

    There may be 100,000, and nothing in one leads back to it: looking through them for garbage stopped the loop.
    """

    shard: int
    epoch: int
    due: datetime
    state: PollState = INITIAL_STATE
    requested: bool = False
    running: RunningPoll | None = None
    crashes: int = 0
    demand: CallDemand | None = None


class ScheduledConnections:
    """All seats; a shard is left without looking at those of others, since many may be left at once."""

    def __init__(self) -> None:
        self._by_connection: dict[ConnectionId, Scheduled] = {}
        self._by_shard: defaultdict[int, set[ConnectionId]] = defaultdict(set)

    @property
    def all(self) -> Mapping[ConnectionId, Scheduled]:
        return self._by_connection

    def get(self, connection: ConnectionId) -> Scheduled | None:
        return self._by_connection.get(connection)

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
