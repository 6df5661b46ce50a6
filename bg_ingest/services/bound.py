"""Turns whose log lines say which connection, shard and epoch they are about, whoever writes them."""

from structlog.contextvars import bound_contextvars

from bg_ingest.domain.ids import ConnectionId, shard_of
from bg_ingest.domain.turns import Plan, Turn
from bg_ingest.ports import Turns


class BoundTurns:
    """The port Turns: what is logged within a turn, however deep, carries where it belongs."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    async def turn(self, connection_id: ConnectionId, epoch: int, plan: Plan, *, asked: bool = False) -> Turn:
        with bound_contextvars(connection=str(connection_id), shard=shard_of(connection_id.user), epoch=epoch):
            return await self._turns.turn(connection_id, epoch, plan, asked=asked)
