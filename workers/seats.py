"""Who awaits turns in this process, found by connection and by shard."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import datetime

import anyio
import msgspec

from bg_ingest.domain.budget import Want
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.turns import Plan

FIRST = Plan()
"""What the first turn of a connection goes by."""


class UnderWay:
    """A turn that runs now."""

    def __init__(self, shard: int) -> None:
        self.shard = shard
        self.scope = anyio.CancelScope()
        self.ended = anyio.Event()


class Seat(msgspec.Struct, eq=False, gc=False):
    """A connection that awaits its turns here.

    There may be 100,000, and nothing in one leads back to it: looking through them for garbage stopped the loop.
    """

    shard: int
    epoch: int
    due: datetime
    plan: Plan = FIRST
    asked: bool = False
    turn: UnderWay | None = None
    crashes: int = 0
    want: Want | None = None


class Seats:
    """All seats; a shard is left without looking at those of others, since many may be left at once."""

    def __init__(self) -> None:
        self._seats: dict[ConnectionId, Seat] = {}
        self._of_shard: defaultdict[int, set[ConnectionId]] = defaultdict(set)

    @property
    def all(self) -> Mapping[ConnectionId, Seat]:
        return self._seats

    def get(self, connection: ConnectionId) -> Seat | None:
        return self._seats.get(connection)

    def of(self, shards: Collection[int]) -> list[ConnectionId]:
        return [connection for shard in shards for connection in self._of_shard.get(shard, ())]

    def add(self, connection: ConnectionId, seat: Seat) -> Seat:
        self._seats[connection] = seat
        self._of_shard[seat.shard].add(connection)
        return seat

    def remove(self, connection: ConnectionId) -> Seat:
        seat = self._seats.pop(connection)
        left = self._of_shard[seat.shard]
        left.remove(connection)
        if not left:
            del self._of_shard[seat.shard]
        return seat
