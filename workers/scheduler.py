"""When each connection's next turn is: a heap of due times, and a task only while a turn runs."""

from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from heapq import heappop, heappush, nsmallest
from itertools import count

import anyio
import structlog
from anyio.abc import TaskGroup, TaskStatus

from bg_ingest.domain.budget import Want
from bg_ingest.domain.ids import ConnectionId, shard_of
from bg_ingest.domain.outcomes import Ending
from bg_ingest.domain.turns import Plan, Turn
from bg_ingest.ports import Clock, Turns
from workers.backoff import Backoff
from workers.bell import Bell
from workers.seats import FIRST, Seat, Seats, UnderWay

log: structlog.stdlib.BoundLogger = structlog.get_logger()

AT_ONCE = 320
"""Turns that run at the same time; the provider's limit of calls is far below what these can do."""

GLANCE = 30.0
"""Seconds after which the heap is looked at again in any case: the clock of instants may be set."""

LOOKED = frozenset({Ending.READ, Ending.NOTHING_NEW, Ending.INACTIVE})
"""Ends of a turn after which a look that was asked for is due no more; after others it is tried again."""

REST_WITHIN = 2.0
"""Seconds left to turns under way when their shard is given back; a cut-off turn repeats elsewhere."""


class Scheduler:
    """Gives every connection it was told of its turns, never two at once for one connection.

    A turn that crashes delays its own connection alone.
    """

    def __init__(
        self,
        turns: Turns,
        clock: Clock,
        *,
        at_once: int = AT_ONCE,
        backoff: Backoff | None = None,
    ) -> None:
        self._turns = turns
        self._clock = clock
        self.may: Callable[[], bool] = lambda: True
        """Asked before each turn: a process that slept learns that nothing is its own any more before it acts."""
        self.wanted: Callable[[Want | None, Want | None], None] = lambda _before, _after: None
        """Told what a connection seated here wants, before and after."""
        self.ended: Callable[[ConnectionId, Ending], None] = lambda _connection, _ending: None
        """Told how each turn ended."""
        self.looked: Callable[[ConnectionId], None] = lambda _connection: None
        """Told whose look was had, if nobody has asked for another since it began."""
        self._backoff = backoff or Backoff(first=5.0)
        self._seats = Seats()
        self._heap: list[tuple[datetime, int, ConnectionId]] = []
        self._order = count()
        self._bell = Bell()
        self._places = anyio.Semaphore(at_once)
        self._under_way: set[UnderWay] = set()
        self._seen_at = clock.now()

    @property
    def seats(self) -> Mapping[ConnectionId, Seat]:
        """The connections scheduled here."""
        return self._seats.all

    @property
    def running(self) -> int:
        """How many turns run now."""
        return len(self._under_way)

    def next_due(self, most: int) -> list[tuple[datetime, ConnectionId]]:
        """Return the next turns to come, soonest first."""
        return nsmallest(most, ((seat.due, each) for each, seat in self.seats.items() if seat.turn is None))

    def seat(self, connection: ConnectionId, *, epoch: int, due: datetime, want: Want | None = None) -> None:
        """Schedule a connection; one that is scheduled already keeps its place."""
        if self._seats.get(connection) is None:
            seat = self._seats.add(connection, Seat(shard_of(connection.user), epoch, due))
            self._want(seat, want)
            self._push(connection)

    def foresee(self, connection: ConnectionId, due: datetime, turn: Turn | None = None) -> None:
        """Move a first turn that has not begun to where it is needed, with what is known before it."""
        seat = self._seats.get(connection)
        if seat and seat.plan is FIRST and seat.turn is None and not seat.asked:
            seat.due, seat.plan = due, turn.plan if turn else FIRST
            self._want(seat, turn.want if turn else seat.want)
            self._push(connection)

    def ask(self, connection: ConnectionId, *, epoch: int) -> None:
        """Give a connection a look as soon as may be, scheduled here before or not."""
        now = self._clock.now()
        seat = self._seats.get(connection)
        if seat is None:
            seat = self._seats.add(connection, Seat(shard_of(connection.user), epoch, now))
        seat.asked = True
        if seat.turn is None:
            seat.due = now
            self._push(connection)

    async def quiet(self, shard: int) -> None:
        """Return when no turn of a shard is under way, be it one that was cut off and still stores a token."""
        for turn in [each for each in self._under_way if each.shard == shard]:
            await turn.ended.wait()

    def drop(self, shards: Collection[int]) -> None:
        """Take no more turns of these shards' connections, and cut off those under way."""
        for turn in self._leave(shards):
            turn.scope.cancel()

    async def rest(self, shards: Collection[int]) -> None:
        """Take no more turns of these shards' connections, and return when none is under way.

        Those that are have a moment to finish; what they shield on its way into the store is waited for.
        """
        leaving = self._leave(shards)
        with anyio.move_on_after(REST_WITHIN):
            for turn in leaving:
                await turn.ended.wait()
        for turn in leaving:
            turn.scope.cancel()
        for turn in leaving:
            await turn.ended.wait()

    async def __call__(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run turns as they fall due, until cancelled."""
        self._plan_all()
        async with anyio.create_task_group() as group:
            task_status.started()
            while True:
                self._heed_the_clock()
                await self._start_due(group)
                await self._bell.wait(self._wait())

    def _leave(self, shards: Collection[int]) -> list[UnderWay]:
        for connection in self._seats.of(shards):
            self._unseat(connection)
        return [turn for turn in self._under_way if turn.shard in shards]

    def _heed_the_clock(self) -> None:
        """Where the clock was set back, what is due next lies far ahead: have every turn say anew when that is."""
        now, before = self._clock.now(), self._seen_at
        self._seen_at = now
        if now < before - timedelta(seconds=GLANCE):
            for seat in self.seats.values():
                seat.due, seat.plan = now, Plan()
            self._plan_all()

    def _plan_all(self) -> None:
        self._heap.clear()
        for connection in self.seats:
            self._push(connection)

    async def _start_due(self, group: TaskGroup) -> None:
        while self.may() and self._heap and self._heap[0][0] <= self._clock.now():
            await self._places.acquire()
            if not self.may():  # any more
                self._places.release()
                break
            due, _, connection = heappop(self._heap)
            seat = self._seats.get(connection)
            if seat is None or seat.turn or seat.due != due:
                self._places.release()
                continue  # gone, or moved: its newer place in the heap counts
            seat.turn = UnderWay(seat.shard)
            self._under_way.add(seat.turn)
            group.start_soon(self._take_turn, connection, seat, seat.turn, name=f"turn of {connection.provider}")

    async def _take_turn(self, connection: ConnectionId, seat: Seat, under_way: UnderWay) -> None:
        try:
            with under_way.scope:
                await self._turn(connection, seat)
        finally:
            seat.turn = None
            self._under_way.discard(under_way)
            self._places.release()
            under_way.ended.set()

    async def _turn(self, connection: ConnectionId, seat: Seat) -> None:
        asked, seat.asked = seat.asked, False
        try:
            turn = await self._turns.turn(connection, seat.epoch, seat.plan, asked=asked)
        except Exception:
            seat.crashes += 1
            delay = self._backoff.delay(seat.crashes)
            log.exception("a turn crashed", action="turn_crashed", connection=str(connection), again_in=round(delay, 1))
            self._next(connection, seat, self._clock.now() + timedelta(seconds=delay))
            seat.asked |= asked  # after the delay, not now
        except BaseException:  # cut off
            seat.asked |= asked
            raise
        else:
            seat.crashes, seat.plan = 0, turn.plan
            self.ended(connection, turn.outcome.ending)
            if not seat.asked and (turn.due is None or turn.outcome.ending in LOOKED):
                self.looked(connection)
            if turn.want and self._seats.get(connection) is seat:
                self._want(seat, turn.want)
            self._next(connection, seat, turn.due)
            if turn.outcome.ending is Ending.READ:
                log.debug("read", action="turn_read", connection=str(connection), recorded=turn.outcome.recorded)

    def _next(self, connection: ConnectionId, seat: Seat, due: datetime | None) -> None:
        if seat.asked:  # while the turn ran: it may have read the connection before what we were asked for
            due = self._clock.now()
        if self._seats.get(connection) is not seat:
            return
        if due is None:
            self._unseat(connection)
        else:
            seat.due = due
            self._push(connection)

    def _unseat(self, connection: ConnectionId) -> None:
        self._want(self._seats.remove(connection), None)

    def _want(self, seat: Seat, want: Want | None) -> None:
        self.wanted(seat.want, want)
        seat.want = want

    def _push(self, connection: ConnectionId) -> None:
        heappush(self._heap, (self.seats[connection].due, next(self._order), connection))
        self._bell.ring()

    def _wait(self) -> float:
        if not self._heap or not self.may():
            return GLANCE
        return min(GLANCE, max(0.0, (self._heap[0][0] - self._clock.now()).total_seconds()))
