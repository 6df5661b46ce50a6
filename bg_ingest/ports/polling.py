"""Whoever takes connections' turns."""

from typing import Protocol

from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.polling import PollReport, PollState


class Polls(Protocol):
    """Decorated by what counts turns, and by what remembers them."""

    async def poll(
        self, connection_id: ConnectionId, epoch: int, state: PollState, *, requested: bool = False
    ) -> PollReport:
        """Take one turn of a connection, under the epoch its shard is owned with."""
