"""Turns whose log lines say which connection, shard and epoch they are about, whoever writes them."""

from structlog.contextvars import bound_contextvars

from bg_ingest.domain.ids import ConnectionId, shard_of
from bg_ingest.domain.polling import PollReport, PollState
from bg_ingest.ports import Polls


class PollerWithLogContext:
    """The port Turns: what is logged within a turn, however deep, carries where it belongs."""

    def __init__(self, poller: Polls) -> None:
        self._poller = poller

    async def poll(
        self, connection_id: ConnectionId, epoch: int, state: PollState, *, requested: bool = False
    ) -> PollReport:
        with bound_contextvars(connection=str(connection_id), shard=shard_of(connection_id.user), epoch=epoch):
            return await self._poller.poll(connection_id, epoch, state, requested=requested)
