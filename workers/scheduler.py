"""When each connection's next turn is: a heap of due times, and a task only while a turn runs."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from heapq import heappop, heappush
from itertools import count
from typing import Protocol

import anyio
import structlog
from anyio.abc import TaskGroup, TaskStatus

from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.outcomes import Ending
from bg_ingest.domain.turns import Plan, Turn
from bg_ingest.ports import Clock
from workers.backoff import Backoff
from workers.bell import Bell

log: structlog.stdlib.BoundLogger = structlog.get_logger()

AT_ONCE = 64
"""Turns that run at the same time; the provider's limit of calls is far below what these can do."""

GLANCE = 30.0
"""Seconds after which the heap is looked at again in any case: the clock of instants may be set."""

DRAIN_FETCHES = 2.0
"""Seconds a drain leaves to turns under way; a cut-off turn repeats elsewhere."""


class Turns(Protocol):
    """What the scheduler schedules."""

    async def turn(self, connection_id: ConnectionId, epoch: int, plan: Plan, *, asked: bool = False) -> Turn: ...


class Seat:
    """A connection that awaits its turns here."""

    __slots__ = ("asked", "crashes", "due", "epoch", "plan", "running")

    def __init__(self, epoch: int, due: datetime) -> None:
        self.epoch = epoch
        self.due = due
        self.plan = Plan()
        self.asked = False
        self.running = False
        self.crashes = 0


class Scheduler:
    """Gives every connection it was told of its turns, never two at once for one connection.

    A turn that crashes delays its own connection alone.
    """

    def __init__(self, turns: Turns, clock: Clock, *, at_once: int = AT_ONCE, backoff: Backoff | None = None) -> None:
        self._turns = turns
        self._clock = clock
        self._backoff = backoff or Backoff(first=5.0)
        self._seats: dict[ConnectionId, Seat] = {}
        self._heap: list[tuple[datetime, int, ConnectionId]] = []
        self._order = count()
        self._bell = Bell()
        self._places = anyio.Semaphore(at_once)
        self._running = 0
        self._seen_at = clock.now()
        self._stopped = False
        self._quiet = anyio.Event()
        self._scope = anyio.CancelScope()

    @property
    def seats(self) -> Mapping[ConnectionId, Seat]:
        """The connections scheduled here."""
        return self._seats

    def seat(self, connection: ConnectionId, *, epoch: int, due: datetime) -> None:
        """Schedule a connection; one that is scheduled already keeps its place."""
        if connection not in self._seats:
            self._seats[connection] = Seat(epoch, due)
            self._push(connection)

    def ask(self, connection: ConnectionId, *, epoch: int) -> None:
        """Give a connection a look as soon as may be, scheduled here before or not."""
        now = self._clock.now()
        seat = self._seats.setdefault(connection, Seat(epoch, now))
        seat.asked = True
        if not seat.running:
            seat.due = now
            self._push(connection)

    async def __call__(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run turns as they fall due, until drained or cancelled."""
        with anyio.CancelScope() as self._scope:
            async with anyio.create_task_group() as group:
                task_status.started()
                while not self._stopped:
                    self._heed_the_clock()
                    await self._start_due(group)
                    await self._bell.wait(self._wait())

    async def drain(self) -> None:
        """Start no more turns; let those under way finish for a moment, then cut them off."""
        self._stopped = True
        self._bell.ring()
        if self._running:
            self._quiet = anyio.Event()
            with anyio.move_on_after(DRAIN_FETCHES):
                await self._quiet.wait()
        self._scope.cancel()

    def _heed_the_clock(self) -> None:
        """Where the clock was set back, what is due next lies far ahead: have every turn say anew when that is."""
        now, before = self._clock.now(), self._seen_at
        self._seen_at = now
        if now < before - timedelta(seconds=GLANCE):
            self._heap.clear()
            for connection, seat in self._seats.items():
                seat.due, seat.plan = now, Plan()
                self._push(connection)

    async def _start_due(self, group: TaskGroup) -> None:
        while self._heap and self._heap[0][0] <= self._clock.now() and not self._stopped:
            due, _, connection = heappop(self._heap)
            seat = self._seats.get(connection)
            if seat is None or seat.running or seat.due != due:
                continue  # gone, or moved: its newer place in the heap counts
            await self._places.acquire()
            seat.running = True
            self._running += 1
            group.start_soon(self._take_turn, connection, seat, name=f"turn of {connection.provider}")

    async def _take_turn(self, connection: ConnectionId, seat: Seat) -> None:
        asked, seat.asked = seat.asked, False
        try:
            turn = await self._turns.turn(connection, seat.epoch, seat.plan, asked=asked)
        except Exception:
            seat.crashes += 1
            delay = self._backoff.delay(seat.crashes)
            log.exception("a turn crashed", action="turn_crashed", connection=str(connection), again_in=round(delay, 1))
            self._next(connection, seat, self._clock.now() + timedelta(seconds=delay))
            seat.asked |= asked  # after the delay, not now
        else:
            seat.crashes, seat.plan = 0, turn.plan
            self._next(connection, seat, turn.due)
            if turn.outcome.ending is Ending.READ:
                log.debug("read", action="turn_read", connection=str(connection), recorded=turn.outcome.recorded)
        finally:
            seat.running = False
            self._running -= 1
            self._places.release()
            if not self._running:
                self._quiet.set()

    def _next(self, connection: ConnectionId, seat: Seat, due: datetime | None) -> None:
        if seat.asked:  # while the turn ran: it may have read the connection before what we were asked for
            due = self._clock.now()
        if self._seats.get(connection) is not seat:
            return
        if due is None:
            del self._seats[connection]
        else:
            seat.due = due
            self._push(connection)

    def _push(self, connection: ConnectionId) -> None:
        heappush(self._heap, (self._seats[connection].due, next(self._order), connection))
        self._bell.ring()

    def _wait(self) -> float:
        if not self._heap:
            return GLANCE
        return min(GLANCE, max(0.0, (self._heap[0][0] - self._clock.now()).total_seconds()))
