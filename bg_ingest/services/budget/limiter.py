"""Per-process side of the shared rate limit of one provider app.

Callers queue by priority. One of them reserves several calls from the shared row with one write, for all waiting
callers and for those expected soon.
"""

from bisect import insort
from datetime import timedelta
from itertools import count
from math import ceil
from random import uniform

import anyio

from bg_ingest.domain.call_budget import RESERVATION_SECONDS, BudgetKey, BudgetRow, ProviderLimit
from bg_ingest.errors import BudgetSpent, StaleRead, TransactionConflict
from bg_ingest.ports import Clock, Priority
from bg_ingest.services.budget.waiting import CallsPerPoll, Permits, RetryTimes, SharedRow, Waiter
from bg_ingest.store.call_budget import CallBudgetStore

MAX_WAIT_SECONDS = {
    Priority.BACKFILL: 2.0,
    Priority.REPAIR: 2.0,
    Priority.REQUESTED: 2.0,
    Priority.LIVE: 30.0,
    Priority.REFRESH: 30.0,
}
"""Longest wait for a call, in seconds. All are below 60, because a refresh becomes due 60 to 120 seconds before the
access token expires."""

MAX_WAITING, MAX_WAITING_LOW = 256, 12
"""Limits of waiting callers. A LIVE call is refused while ``MAX_WAITING`` callers of any priority wait. A call below
LIVE is refused while ``MAX_WAITING_LOW`` callers below LIVE wait. A poll that waits for a call counts among the
concurrent polls of the scheduler. It may therefore delay another poll that needs no call."""

MIN_JITTER_SECONDS, MAX_JITTER_SECONDS = 0.01, 0.02
"""Random delay, in seconds, after the time at which enough calls are available."""

FAIRNESS_SECONDS, FAIRNESS_HALVING_SECONDS = 0.2, 0.4
"""Extra wait before the next attempt to reserve: ``FAIRNESS_SECONDS / (1 + t / FAIRNESS_HALVING_SECONDS)`` seconds, at
``t`` seconds after the last reservation of this process. The process that has waited longest therefore reserves first,
even if its store answers more slowly."""

STARVATION_SECONDS = 3.0
"""Seconds without a reservation after which a single available call is reserved. Until then, a process reserves only
if at least half of the requested calls are available."""


class CallLimiter:
    """Grants the calls of one app: higher priorities first, in order of arrival within a priority."""

    def __init__(
        self, key: BudgetKey, limit: ProviderLimit, budgets: CallBudgetStore, clock: Clock, interval: timedelta
    ) -> None:
        self.granted = 0
        """Calls granted by this process since its start."""
        self.calls_per_poll = CallsPerPoll(limit, interval)
        self._limit = limit
        self._row = SharedRow(key, budgets, clock)
        self._reserved_at = float("-inf")
        self._permits: dict[Priority, Permits] = {}
        self._queue: list[Waiter] = []
        self._reserver: Waiter | None = None
        self._order = count()
        self._retry_times = RetryTimes(limit)
        self._closed = False

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def is_paused(self) -> bool:
        """True while calls are paused, by the wall clock of this process. Thread-safe."""
        return self._row.is_paused

    async def acquire(self, priority: Priority, *, once: bool = False) -> None:
        """Return when a call may be made; raise BudgetSpent if the wait is too long.

        ``once`` marks a call that is not requested again after BudgetSpent. ``close`` does not end its wait.
        """
        if self._is_hopeless(priority):
            raise BudgetSpent(self._retry_times.next_wait(priority, self._row.pause_seconds))
        is_first = not self._queue or self._queue[0].priority < priority
        if self._row.is_fresh and not self._row.pause_seconds and is_first and self._use_permit(priority):
            return
        waiter = Waiter(priority, next(self._order))
        insort(self._queue, waiter, key=lambda queued: (-queued.priority, queued.order))
        if self._reserver and self._queue[0] is waiter:
            self._reserver.wakeup.set()
        try:
            with anyio.move_on_after(MAX_WAIT_SECONDS[priority]) as wait_scope:
                await self._wait(waiter, wait_scope, once=once)
        finally:
            self._leave(waiter)
        if not waiter.granted:
            raise BudgetSpent(self._retry_times.next_wait(priority, self._row.pause_seconds))

    def close(self) -> None:
        """End the present and future waits of all calls without ``once``: another process makes these calls."""
        self._closed = True
        for waiter in self._queue:
            waiter.wakeup.set()

    async def pause(self, sent: float, wait: float | None) -> float:
        """Pause all callers, because a call sent at ``sent`` was refused; return the seconds of the pause."""
        await self._row.pause(sent, wait)
        return self._row.pause_seconds

    def _is_hopeless(self, priority: Priority) -> bool:
        if self._row.pause_seconds > MAX_WAIT_SECONDS[priority]:
            return True
        if priority < Priority.LIVE:
            return sum(waiter.priority < Priority.LIVE for waiter in self._queue) >= MAX_WAITING_LOW
        return priority == Priority.LIVE and len(self._queue) >= MAX_WAITING

    async def _wait(self, waiter: Waiter, wait_scope: anyio.CancelScope, *, once: bool) -> None:
        """Wait for a call. The first of the waiting callers reserves calls for all."""
        while not waiter.granted and (once or not self._closed):
            wait = float("inf")
            if self._reserver in (None, waiter):
                self._reserver = waiter
                waiter.wakeup = anyio.Event()
                wait = await self._reserve()
                if self._row.pause_seconds > wait_scope.deadline - anyio.current_time():
                    return
            if not waiter.granted:
                with anyio.move_on_after(wait):
                    await waiter.wakeup.wait()
                waiter.wakeup = anyio.Event()

    def _leave(self, waiter: Waiter) -> None:
        """Leave the queue. If this caller reserved for the others, the first of the queue takes over."""
        if not waiter.granted:
            self._queue.remove(waiter)
        if self._reserver is waiter:
            self._reserver = None
            if self._queue:
                self._queue[0].wakeup.set()

    async def _reserve(self) -> float:
        """Grant calls to waiting callers; return the seconds until more may be available."""
        row = await self._row.read()
        if self._row.pause_seconds:
            return self._row.pause_seconds
        self._grant_waiting()
        if not self._queue:
            return 0.0
        priority, started_at = self._queue[0].priority, anyio.current_time()
        max_calls, min_calls = self._reservation_bounds(priority)
        before, now = row or BudgetRow(), self._row.now()
        reservation = self._limit.reserve(before, now, priority, max_calls=max_calls, min_calls=min_calls)
        if not reservation.calls:
            return reservation.wait + self._fairness_delay()
        try:
            await self._row.replace(row, reservation.after)
        except (StaleRead, TransactionConflict):
            return self._fairness_delay()
        self._permits[priority] = Permits(reservation.calls, started_at + RESERVATION_SECONDS)
        self._reserved_at = started_at
        self._grant_waiting()
        return 0.0

    def _fairness_delay(self) -> float:
        return uniform(MIN_JITTER_SECONDS, MAX_JITTER_SECONDS) + FAIRNESS_SECONDS / (
            1 + (anyio.current_time() - self._reserved_at) / FAIRNESS_HALVING_SECONDS
        )

    def _reservation_bounds(self, priority: Priority) -> tuple[int, int]:
        """Return the most and the fewest calls to reserve. The minimum saves writes: a reservation is a write."""
        waiting = sum(waiter.priority >= priority for waiter in self._queue)
        last = self._permits.get(priority)
        expected = last.next_size if last and priority < Priority.REFRESH else 1
        max_calls = min(self._limit.max_reservation, max(waiting, expected))
        starving = anyio.current_time() - self._reserved_at > STARVATION_SECONDS
        return max_calls, 1 if starving else ceil(max_calls / 2)

    def _grant_waiting(self) -> None:
        while self._queue and self._use_permit(self._queue[0].priority):
            waiter = self._queue.pop(0)
            waiter.granted = True
            waiter.wakeup.set()

    def _use_permit(self, priority: Priority) -> bool:
        """Use a reserved call. Calls reserved for the lowest priority are used first."""
        for permit_priority, permits in sorted(self._permits.items()):
            if permit_priority <= priority and permits.remaining and anyio.current_time() < permits.valid_until:
                permits.remaining -= 1
                self.granted += 1
                return True
        return False
