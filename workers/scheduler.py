"""Scheduler of polls: a heap of due times, and a task only while a poll runs."""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from heapq import heappop, heappush, nsmallest
from itertools import count

import anyio
import structlog
from anyio.abc import TaskGroup, TaskStatus

from bg_ingest.domain.call_budget import CallDemand
from bg_ingest.domain.ids import ConnectionId, shard_of
from bg_ingest.domain.polling import REQUEST_SPACING, Outcome, PollReport, PollState
from bg_ingest.ports import Clock
from bg_ingest.services.polling.poll import Poller
from workers.handover import OwnershipView
from workers.scheduled import INITIAL_STATE, PollListener, Scheduled, ScheduledConnections
from workers.supervisor import Backoff
from workers.wakeup import RunningTask, Wakeup

log: structlog.stdlib.BoundLogger = structlog.get_logger()

MAX_CONCURRENT_POLLS = 320
"""Polls that run at the same time. The call limit of the provider is far below their capacity."""

RECHECK_SECONDS = 30.0
"""Longest sleep in seconds, because the wall clock may be set during a sleep."""

DONE_OUTCOMES = frozenset({Outcome.READ, Outcome.NOTHING_NEW, Outcome.INACTIVE})
"""Outcomes that satisfy a requested poll. Any other outcome leaves the request pending if another poll follows."""

FINISH_SECONDS = 2.0
"""Seconds left to running polls when their shard is released. The next owner repeats a cancelled poll."""


class Scheduler:
    """Runs the polls of all scheduled connections, never two at once for one connection.

    A poll that crashes delays its own connection only.
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
        self._running: set[RunningTask] = set()
        self._last_now = clock.now()

    @property
    def scheduled(self) -> Mapping[ConnectionId, Scheduled]:
        return self._scheduled.all

    @property
    def polls_running(self) -> int:
        return len(self._running)

    def next_due(self, limit: int) -> list[tuple[datetime, ConnectionId]]:
        """Return due times and connections of the next polls, earliest first."""
        waiting = (row for row in self.scheduled.items() if row[1].running_poll is None)
        return nsmallest(limit, ((scheduled.due, connection) for connection, scheduled in waiting))

    def schedule(
        self, connection: ConnectionId, *, epoch: int, due: datetime, demand: CallDemand | None = None
    ) -> None:
        """Schedule a connection; one that is scheduled already keeps its due time."""
        if self.scheduled.get(connection) is None:
            scheduled = self._scheduled.add(connection, Scheduled(shard_of(connection.user), epoch, due))
            self._set_demand(scheduled, demand)
            self._push(connection)

    def set_first_poll(self, connection: ConnectionId, due: datetime, poll: PollReport | None = None) -> None:
        """Set the due time of a first poll that has not begun.

        ``poll`` is the result of `Poller.report_without_fetch`; it also sets state and demand.
        """
        scheduled = self.scheduled.get(connection)
        if scheduled and scheduled.poll_state is INITIAL_STATE and not (scheduled.running_poll or scheduled.requested):
            scheduled.due, scheduled.poll_state = due, poll.state if poll else INITIAL_STATE
            self._set_demand(scheduled, poll.demand if poll else scheduled.demand)
            self._push(connection)

    def request_poll(self, connection: ConnectionId, *, epoch: int) -> None:
        """Poll a connection as soon as ``REQUEST_SPACING`` permits, even if it is not scheduled yet."""
        now = self._clock.now()
        scheduled = self.scheduled.get(connection)
        if scheduled is None:
            scheduled = self._scheduled.add(connection, Scheduled(shard_of(connection.user), epoch, now))
        scheduled.requested = True
        if scheduled.running_poll is None:
            scheduled.due = min(scheduled.due, self._requested_due(scheduled))
            self._push(connection)

    async def wait_idle(self, shard: int) -> None:
        """Return once no poll of a shard runs, and no cancelled poll still stores a grant."""
        for poll in [running for running in self._running if running.shard == shard]:
            await poll.finished.wait()

    def cancel(self, shards: Collection[int]) -> None:
        """Unschedule the connections of these shards and cancel their running polls."""
        for poll in self._unschedule(shards):
            poll.scope.cancel()

    async def finish(self, shards: Collection[int]) -> None:
        """Unschedule the connections of these shards and return once none of their polls runs.

        Running polls are cancelled after ``FINISH_SECONDS``; their shielded writes are waited for.
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
        self._rebuild_heap()
        async with anyio.create_task_group() as group:
            task_status.started()
            while True:
                self._handle_clock_change()
                await self._start_due(group)
                await self._wakeup.wait(self._seconds_to_next())

    def _unschedule(self, shards: Collection[int]) -> list[RunningTask]:
        for connection in self._scheduled.in_shards(shards):
            self._remove(connection)
        return [poll for poll in self._running if poll.shard in shards]

    def _handle_clock_change(self) -> None:
        """Make every connection due now if the clock was set back, because due times would lie far ahead."""
        now, before = self._clock.now(), self._last_now
        self._last_now = now
        if now < before - timedelta(seconds=RECHECK_SECONDS):
            for scheduled in self.scheduled.values():
                scheduled.due, scheduled.poll_state = now, PollState()
            self._rebuild_heap()

    def _rebuild_heap(self) -> None:
        self._heap.clear()
        for connection in self.scheduled:
            self._push(connection)

    async def _start_due(self, group: TaskGroup) -> None:
        while self._ownership.is_valid() and self._heap and self._heap[0][0] <= self._clock.now():
            await self._semaphore.acquire()
            if not self._ownership.is_valid():  # expired during the wait
                self._semaphore.release()
                break
            due, _, connection = heappop(self._heap)
            scheduled = self.scheduled.get(connection)
            if scheduled is None or scheduled.running_poll or scheduled.due != due:
                self._semaphore.release()
                continue  # unscheduled, or has a newer entry in the heap
            scheduled.running_poll = running = RunningTask(scheduled.shard)
            self._running.add(running)
            group.start_soon(self._run_poll, connection, scheduled, running, name=f"poll of {connection.provider}")

    async def _run_poll(self, connection: ConnectionId, scheduled: Scheduled, running_poll: RunningTask) -> None:
        try:
            with running_poll.scope:
                await self._poll(connection, scheduled)
        finally:
            scheduled.running_poll = None
            self._running.discard(running_poll)
            self._semaphore.release()
            running_poll.finished.set()

    async def _poll(self, connection: ConnectionId, scheduled: Scheduled) -> None:
        requested, scheduled.requested = scheduled.requested, False
        if requested:
            scheduled.requested_poll_at = anyio.current_time()
        try:
            poll = await self._poller.poll(connection, scheduled.epoch, scheduled.poll_state, requested=requested)
        except Exception:
            scheduled.crashes += 1
            delay = self._backoff.delay(scheduled.crashes)
            log.exception("a poll crashed", action="poll_crashed", connection=str(connection), again_in=round(delay, 1))
            self._schedule_next(connection, scheduled, self._clock.now() + timedelta(seconds=delay))
            scheduled.requested |= requested  # last, because ``_schedule_next`` ignores the delay of a requested poll
        except BaseException:  # cancelled
            scheduled.requested |= requested
            raise
        else:
            scheduled.crashes, scheduled.poll_state = 0, poll.state
            is_done = poll.due is None or poll.result.outcome in DONE_OUTCOMES
            request_done = is_done and not scheduled.requested
            self._listener.poll_finished(connection, poll.result.outcome, request_done=request_done)
            if poll.demand and self.scheduled.get(connection) is scheduled:
                self._set_demand(scheduled, poll.demand)
            self._schedule_next(connection, scheduled, poll.due)
            if poll.result.outcome is Outcome.READ:
                log.debug("read", action="poll_read", connection=str(connection), recorded=poll.result.recorded)

    def _schedule_next(self, connection: ConnectionId, scheduled: Scheduled, due: datetime | None) -> None:
        if scheduled.requested:  # during the poll, which may have read the connection before the request
            requested_due = self._requested_due(scheduled)
            due = min(due, requested_due) if due else requested_due
        if self.scheduled.get(connection) is not scheduled:
            return
        if due is None:
            self._remove(connection)
        else:
            scheduled.due = due
            self._push(connection)

    def _requested_due(self, scheduled: Scheduled) -> datetime:
        """Return the time from which a requested poll may run: one user's requests must not use up the calls of all."""
        since = anyio.current_time() - scheduled.requested_poll_at
        return self._clock.now() + timedelta(seconds=max(0.0, REQUEST_SPACING.total_seconds() - since))

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
