"""What happened lately to connections, as far as this process saw it: in memory, for timelines."""

from collections import OrderedDict, deque

from bg_ingest.domain.grants import Grant
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.outcomes import Ending, Outcome
from bg_ingest.domain.timeline import Moment, looked, of_grant, pushed
from bg_ingest.domain.turns import Turn
from bg_ingest.ports import Clock

MOST_REMEMBERED, MOMENTS_EACH = 2_000, 30
"""Connections that are remembered, and how much of each: 12 MB at most."""

CALM = {Ending.READ, Ending.NOTHING_NEW}


class Moments:
    """Remembers for as many connections as there is room for.

    Where there are more, those that were in trouble last have the room: it is of them that people ask.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._remembered: OrderedDict[ConnectionId, deque[Moment]] = OrderedDict()

    def looked(self, connection: ConnectionId, turn: Turn) -> None:
        """Remember a turn that asked the provider."""
        self._note(connection, looked(turn, self._clock.now()), troubled=turn.outcome.ending not in CALM)

    def pushed(self, connection: ConnectionId, outcome: Outcome | None) -> None:
        """Remember a webhook; without an outcome it had been received before."""
        self._note(connection, pushed(outcome, self._clock.now()), troubled=False)

    def granted(self, grant: Grant) -> None:
        """Remember what has just been stored of a grant: its successor, or that the provider refused it."""
        self._note(grant.id, of_grant(grant, self._clock.now()), troubled=grant.retry_at is not None)

    def of(self, connection: ConnectionId) -> list[Moment]:
        """Return what is remembered, the oldest first."""
        return [*self._remembered.get(connection, ())]

    def _note(self, connection: ConnectionId, moment: Moment, *, troubled: bool) -> None:
        known = connection in self._remembered
        if not known and not troubled and len(self._remembered) >= MOST_REMEMBERED:
            return
        self._remembered.setdefault(connection, deque(maxlen=MOMENTS_EACH)).append(moment)
        if troubled:
            self._remembered.move_to_end(connection)
        if len(self._remembered) > MOST_REMEMBERED:
            self._remembered.popitem(last=False)
