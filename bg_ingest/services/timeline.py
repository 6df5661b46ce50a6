"""Put together what happened to a connection lately: from its rows, its user's changes, and looks seen here."""

from collections import OrderedDict, deque
from collections.abc import Callable

from bg_ingest.domain.ids import ConnectionId, shard_of
from bg_ingest.domain.outcomes import Ending
from bg_ingest.domain.timeline import Moment, Next, Timeline, by_schedule, looked, of_change, of_rows
from bg_ingest.domain.turns import Plan, Turn
from bg_ingest.errors import Unknown
from bg_ingest.ports import Clock, Pending, Store, Turns
from bg_ingest.services.poll import Polling

MOST_REMEMBERED, LOOKS_EACH = 2_000, 20
"""Connections whose looks are kept in memory, and how many: 8 MB at most."""

CHANGES = 50
"""Of the user, read back for one answer: one batch."""

CALM = {Ending.READ, Ending.NOTHING_NEW}


class RememberedTurns:
    """The port Turns: takes turns and remembers the looks among them, for as many connections as there is room for.

    Where there are more, those that were in trouble last have the room: it is of them that people ask.
    """

    def __init__(self, turns: Turns, clock: Clock) -> None:
        self._turns = turns
        self._clock = clock
        self._looks: OrderedDict[ConnectionId, deque[Moment]] = OrderedDict()

    async def turn(self, connection_id: ConnectionId, epoch: int, plan: Plan, *, asked: bool = False) -> Turn:
        turn = await self._turns.turn(connection_id, epoch, plan, asked=asked)
        if turn.outcome.ending not in (Ending.NOT_DUE, Ending.INACTIVE):
            self._remember(connection_id, looked(turn, self._clock.now()), troubled=turn.outcome.ending not in CALM)
        return turn

    def of(self, connection: ConnectionId) -> list[Moment]:
        """Return the looks remembered, the oldest first."""
        return [*self._looks.get(connection, ())]

    def _remember(self, connection: ConnectionId, moment: Moment, *, troubled: bool) -> None:
        known = connection in self._looks
        if not known and not troubled and len(self._looks) >= MOST_REMEMBERED:
            return
        self._looks.setdefault(connection, deque(maxlen=LOOKS_EACH)).append(moment)
        if troubled:
            self._looks.move_to_end(connection)
        if len(self._looks) > MOST_REMEMBERED:
            self._looks.popitem(last=False)


class Timelines:
    """Tells what happened to a connection. It costs two reads, and nothing was written for it."""

    def __init__(self, store: Store, polling: Polling, turns: RememberedTurns, clock: Clock) -> None:
        self._store = store
        self._polling = polling
        self._turns = turns
        self._clock = clock

    async def of(self, connection_id: ConnectionId, ahead: Callable[[ConnectionId], Next | None]) -> Timeline:
        """Return it; Unknown without such a connection. ``ahead`` knows the next turn where it is polled here."""
        connection, grant = await self._store.connections.with_grant(connection_id)
        if connection is None:
            raise Unknown
        next_turn = ahead(connection_id)
        looks = self._turns.of(connection_id)
        moments = [*of_rows(connection, grant, outcome=not looks), *looks, *await self._changes(connection_id)]
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
