"""Whoever takes connections' turns."""

from typing import Protocol

from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.turns import Plan, Turn


class Turns(Protocol):
    """Decorated by what counts turns, and by what remembers them."""

    async def turn(self, connection_id: ConnectionId, epoch: int, plan: Plan, *, asked: bool = False) -> Turn:
        """Take one turn of a connection, under the epoch its shard is owned with."""
