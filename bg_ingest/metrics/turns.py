"""Connections' turns, by how they ended."""

from time import perf_counter

from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.turns import Plan, Turn
from bg_ingest.metrics.measures import Measures
from bg_ingest.metrics.timing import ending_of
from bg_ingest.ports import Turns


class MeasuredTurns:
    """Takes turns, and times those that asked a provider apart from those that were not due."""

    def __init__(self, turns: Turns, measures: Measures) -> None:
        self._turns = turns
        self._measures = measures

    async def turn(self, connection_id: ConnectionId, epoch: int, plan: Plan, *, asked: bool = False) -> Turn:
        origin, ending = "none", "crashed"
        began = perf_counter()
        try:
            turn = await self._turns.turn(connection_id, epoch, plan, asked=asked)
            origin, ending = turn.origin or "none", turn.outcome.ending
        except BaseException as error:
            ending = ending_of(type(error))
            raise
        finally:
            self._measures.turns.observe(perf_counter() - began, connection_id.provider, origin, ending)
        return turn
