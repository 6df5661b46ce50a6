"""When each connection's next turn is: a heap of due times, and a task only while a turn runs."""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from heapq import heappop, heappush, nsmallest
from itertools import count
from typing import Protocol

import anyio
import structlog
from anyio.abc import TaskGroup, TaskStatus

from bg_ingest.domain.call_budget import CallDemand
from bg_ingest.domain.ids import ConnectionId, shard_of
from bg_ingest.domain.polling import Outcome, PollReport, PollState
from bg_ingest.ports import Clock
from bg_ingest.services.polling.poll import Poller
from workers.backoff import Backoff
from workers.ownership_view import OwnershipView
from workers.scheduled import INITIAL_STATE, RunningPoll, Scheduled, ScheduledConnections
from workers.wakeup import Wakeup

log: structlog.stdlib.BoundLogger = structlog.get_logger()

MAX_CONCURRENT_POLLS = 320
"""Turns that run at the same time; the provider's limit of calls is far below what these can do."""

RECHECK_SECONDS = 30.0
"""Seconds after which the heap is looked at again in any case: the clock of instants may be set."""

DONE_OUTCOMES = frozenset({Outcome.READ, Outcome.NOTHING_NEW, Outcome.INACTIVE})
"""Ends of a turn after which a look that was asked for is due no more; after others it is tried again."""

FINISH_SECONDS = 2.0
"""Seconds left to turns under way when their shard is given back; a cut-off turn repeats elsewhere."""


class PollListener(Protocol):
    """Receiver of events of the scheduler; each call returns at once."""

    def demand_changed(self, before: CallDemand | None, after: CallDemand | None) -> None:
        """Take note that a scheduled connection wants other calls; None is a connection that is not scheduled."""

    def poll_finished(self, connection: ConnectionId, outcome: Outcome, *, request_done: bool) -> None:
        """Take note of an outcome; ``request_done``: a look asked for before this turn began is due no more."""


class Scheduler:
    """Gives every connection it was told of its turns, never two at once for one connection.

    A turn that crashes delays its own connection alone.
    """

    def __init__(
        self,
        poller: Poller,
        clock: Clock,
        ownership: OwnershipView,
        listener: PollListener,
        *,
        max_concurrent: int = MAX_CONCURRENT_POLLS,
        backoff: Backoff | None = None,
    ) -> None:
        self._poller = poller
        self._clock = clock
        self._ownership = ownership
        self._listener = listener
        self._backoff = backoff or Backoff(first=5.0)
        self._scheduled = ScheduledConnections()
        self._heap: list[tuple[datetime, int, ConnectionId]] = []
        self._order = count()
        self._wakeup = Wakeup()
        self._semaphore = anyio.Semaphore(max_concurrent)
        self._running: set[RunningPoll] = set()
        self._last_now = clock.now()

    @property
    def scheduled(self) -> Mapping[ConnectionId, Scheduled]:
        """The connections scheduled here."""
        return self._scheduled.all

    @property
    def polls_running(self) -> int:
        """How many turns run now."""
        return len(self._running)

    def next_due(self, limit: int) -> list[tuple[datetime, ConnectionId]]:
        """Return the next turns to come, soonest first."""
        return nsmallest(
            limit, ((scheduled.due, each) for each, scheduled in self.scheduled.items() if scheduled.running is None)
        )

    def schedule(
        self, connection: ConnectionId, *, epoch: int, due: datetime, demand: CallDemand | None = None
    ) -> None:
        """Schedule a connection; one that is scheduled already keeps its place."""
        if self._scheduled.get(connection) is None:
            scheduled = self._scheduled.add(connection, Scheduled(shard_of(connection.user), epoch, due))
            self._set_demand(scheduled, demand)
            self._push(connection)

    def set_first_poll(self, connection: ConnectionId, due: datetime, poll: PollReport | None = None) -> None:
        """Move a first turn that has not begun to where it is needed, with what is known before it."""
        scheduled = self._scheduled.get(connection)
        if scheduled and scheduled.state is INITIAL_STATE and scheduled.running is None and not scheduled.requested:
            scheduled.due, scheduled.state = due, poll.state if poll else INITIAL_STATE
            self._set_demand(scheduled, poll.demand if poll else scheduled.demand)
            self._push(connection)

    def request_poll(self, connection: ConnectionId, *, epoch: int) -> None:
        """Give a connection a look as soon as may be, scheduled here before or not."""
        now = self._clock.now()
        scheduled = self._scheduled.get(connection)
        if scheduled is None:
            scheduled = self._scheduled.add(connection, Scheduled(shard_of(connection.user), epoch, now))
        scheduled.requested = True
        if scheduled.running is None:
            scheduled.due = now
            self._push(connection)

    async def wait_idle(self, shard: int) -> None:
        """Return when no turn of a shard is under way, be it one that was cut off and still stores a token."""
        for poll in [each for each in self._running if each.shard == shard]:
            await poll.finished.wait()

    def cancel(self, shards: Collection[int]) -> None:
        """Take no more turns of these shards' connections, and cut off those under way."""
        for poll in self._unschedule(shards):
            poll.scope.cancel()

    async def finish(self, shards: Collection[int]) -> None:
        """Take no more turns of these shards' connections, and return when none is under way.

        Those that are have a moment to finish; what they shield on its way into the store is waited for.
        """
        running = self._unschedule(shards)
        with anyio.move_on_after(FINISH_SECONDS):
            for poll in running:
                await poll.finished.wait()
        for poll in running:
            poll.scope.cancel()
        for poll in running:
            await poll.finished.wait()

    async def __call__(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run turns as they fall due, until cancelled."""
        self._rebuild_heap()
        async with anyio.create_task_group() as group:
            task_status.started()
            while True:
                self._handle_clock_change()
                await self._start_due(group)
                await self._wakeup.wait(self._seconds_to_next())

    def _unschedule(self, shards: Collection[int]) -> list[RunningPoll]:
        for connection in self._scheduled.in_shards(shards):
            self._remove(connection)
        return [poll for poll in self._running if poll.shard in shards]

    def _handle_clock_change(self) -> None:
        """Where the clock was set back, what is due next lies far ahead: have every turn say anew when that is."""
        now, before = self._clock.now(), self._last_now
        self._last_now = now
        if now < before - timedelta(seconds=RECHECK_SECONDS):
            for scheduled in self.scheduled.values():
                scheduled.due, scheduled.state = now, PollState()
            self._rebuild_heap()

    def _rebuild_heap(self) -> None:
        self._heap.clear()
        for connection in self.scheduled:
            self._push(connection)

    async def _start_due(self, group: TaskGroup) -> None:
        while self._ownership.is_valid() and self._heap and self._heap[0][0] <= self._clock.now():
            await self._semaphore.acquire()
            if not self._ownership.is_valid():  # any more
                self._semaphore.release()
                break
            due, _, connection = heappop(self._heap)
            scheduled = self._scheduled.get(connection)
            if scheduled is None or scheduled.running or scheduled.due != due:
                self._semaphore.release()
                continue  # gone, or moved: its newer place in the heap counts
            scheduled.running = RunningPoll(scheduled.shard)
            self._running.add(scheduled.running)
            group.start_soon(
                self._run_poll, connection, scheduled, scheduled.running, name=f"turn of {connection.provider}"
            )

    async def _run_poll(self, connection: ConnectionId, scheduled: Scheduled, running_poll: RunningPoll) -> None:
        try:
            with running_poll.scope:
                await self._poll(connection, scheduled)
        finally:
            scheduled.running = None
            self._running.discard(running_poll)
            self._semaphore.release()
            running_poll.finished.set()

    async def _poll(self, connection: ConnectionId, scheduled: Scheduled) -> None:
        requested, scheduled.requested = scheduled.requested, False
        try:
            poll = await self._poller.poll(connection, scheduled.epoch, scheduled.state, requested=requested)
        except Exception:
            scheduled.crashes += 1
            delay = self._backoff.delay(scheduled.crashes)
            log.exception("a turn crashed", action="poll_crashed", connection=str(connection), again_in=round(delay, 1))
            self._schedule_next(connection, scheduled, self._clock.now() + timedelta(seconds=delay))
            scheduled.requested |= requested  # after the delay, not now
        except BaseException:  # cut off
            scheduled.requested |= requested
            raise
        else:
            scheduled.crashes, scheduled.state = 0, poll.state
            is_done = poll.due is None or poll.result.outcome in DONE_OUTCOMES
            request_done = is_done and not scheduled.requested
            self._listener.poll_finished(connection, poll.result.outcome, request_done=request_done)
            if poll.demand and self._scheduled.get(connection) is scheduled:
                self._set_demand(scheduled, poll.demand)
            self._schedule_next(connection, scheduled, poll.due)
            if poll.result.outcome is Outcome.READ:
                log.debug("read", action="poll_read", connection=str(connection), recorded=poll.result.recorded)

    def _schedule_next(self, connection: ConnectionId, scheduled: Scheduled, due: datetime | None) -> None:
        if scheduled.requested:  # while the turn ran: it may have read the connection before what we were asked for
            due = self._clock.now()
        if self._scheduled.get(connection) is not scheduled:
            return
        if due is None:
            self._remove(connection)
        else:
            scheduled.due = due
            self._push(connection)

    def _remove(self, connection: ConnectionId) -> None:
        self._set_demand(self._scheduled.remove(connection), None)

    def _set_demand(self, scheduled: Scheduled, demand: CallDemand | None) -> None:
        self._listener.demand_changed(scheduled.demand, demand)
        scheduled.demand = demand

    def _push(self, connection: ConnectionId) -> None:
        heappush(self._heap, (self.scheduled[connection].due, next(self._order), connection))
        self._wakeup.set()

    def _seconds_to_next(self) -> float:
        if not self._heap or not self._ownership.is_valid():
            return RECHECK_SECONDS
        return min(RECHECK_SECONDS, max(0.0, (self._heap[0][0] - self._clock.now()).total_seconds()))
