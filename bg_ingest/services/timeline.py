"""Put together what happened to a connection lately: from its rows, its user's changes, and what was seen here."""

from collections.abc import Callable

from bg_ingest.domain.ids import ConnectionId, shard_of
from bg_ingest.domain.outcomes import Ending
from bg_ingest.domain.timeline import Moment, Next, Timeline, by_schedule, of_change, of_rows
from bg_ingest.domain.turns import Plan, Turn
from bg_ingest.errors import Unknown
from bg_ingest.ports import Clock, Pending, Store, Turns
from bg_ingest.services.moments import Moments
from bg_ingest.services.poll import Polling

CHANGES = 50
"""Of the user, read back for one answer: one batch."""


class RememberedTurns:
    """The port Turns: takes turns, and remembers those that asked a provider."""

    def __init__(self, turns: Turns, moments: Moments) -> None:
        self._turns = turns
        self._moments = moments

    async def turn(self, connection_id: ConnectionId, epoch: int, plan: Plan, *, asked: bool = False) -> Turn:
        turn = await self._turns.turn(connection_id, epoch, plan, asked=asked)
        if turn.outcome.ending not in (Ending.NOT_DUE, Ending.INACTIVE):
            self._moments.looked(connection_id, turn)
        return turn


class Timelines:
    """Tells what happened to a connection. It costs two reads, and nothing was written for it."""

    def __init__(self, store: Store, polling: Polling, moments: Moments, clock: Clock) -> None:
        self._store = store
        self._polling = polling
        self._moments = moments
        self._clock = clock

    async def of(self, connection_id: ConnectionId, ahead: Callable[[ConnectionId], Next | None]) -> Timeline:
        """Return it; Unknown without such a connection. ``ahead`` knows the next turn where it is polled here."""
        connection, grant = await self._store.connections.with_grant(connection_id)
        if connection is None:
            raise Unknown
        next_turn = ahead(connection_id)
        # what is remembered from before the connect may be of a person who has been erased since
        seen = [each for each in self._moments.of(connection_id) if each.at >= connection.connected_at]
        moments = [*of_rows(connection, grant, seen), *seen, *await self._changes(connection_id)]
        rhythm, now = self._polling.rhythm(connection), self._clock.now()
        return Timeline(
            connection,
            next_turn or by_schedule(connection, rhythm, now),
            tuple(sorted(moments, key=lambda each: each.at, reverse=True)),
            next_turn is not None,
        )

    async def _changes(self, connection: ConnectionId) -> list[Moment]:
        head = await self._store.readings.head(connection.user)
        last = head.last_change if head else 0
        shard = shard_of(connection.user)
        wanted = [Pending(shard, connection.user, number) for number in range(max(1, last - CHANGES + 1), last + 1)]
        changes = await self._store.outbox.changes(wanted) if wanted else {}
        return [moment for each in changes.values() if (moment := of_change(each, connection.provider))]
