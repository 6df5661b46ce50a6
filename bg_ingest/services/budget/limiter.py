"""Where the calls of one app are had in this process: who waits, what is at hand, and what the row gives.

A slice is a few calls taken from the row with one write, for those who wait and those who will soon. One of the
waiting asks the row for all of them, so that nobody else has to.
"""

from bisect import insort
from contextlib import suppress
from datetime import timedelta
from itertools import count
from math import ceil
from random import uniform

import anyio
import structlog

from bg_ingest.domain.call_budget import (
    MICROS_PER_SECOND,
    RESERVATION_SECONDS,
    BudgetKey,
    BudgetRow,
    ProviderLimit,
    RowClock,
    pause_after,
)
from bg_ingest.errors import BudgetSpent, StaleRead, StoreError, TransactionConflict
from bg_ingest.ports import Clock, Priority
from bg_ingest.services.budget.waiting import DEFAULT_POLL_INTERVAL, CallsPerPoll, Permits, RetryTimes, Waiter
from bg_ingest.services.retrying import retrying
from bg_ingest.store.call_budget import CallBudgetStore

log: structlog.stdlib.BoundLogger = structlog.get_logger()

MAX_WAIT_SECONDS = {Priority.BACKFILL: 2.0, Priority.REPAIR: 2.0, Priority.LIVE: 30.0, Priority.REFRESH: 30.0}
"""Seconds to wait for a call: less than an access token is refreshed ahead of its end."""

MAX_WAITING, MAX_WAITING_LOW = 256, 12
"""Callers up to LIVE, and below it, who may wait at a time: they hold places of turns that may need no call."""

RECHECK_SECONDS = 2.0
"""Seconds after which the row is read before a call at hand is used: somebody may have paused us all."""

MIN_JITTER_SECONDS, MAX_JITTER_SECONDS = 0.01, 0.02
"""Seconds after there is enough until we look, by chance."""

FAIRNESS_SECONDS, FAIRNESS_HALF_LIFE = 0.2, 0.4
"""Extra wait after a granted reservation: half of it after ``FAIRNESS_HALF_LIFE``, a third after twice it. The process
that has waited longest reserves first, also if its store answers more slowly."""

STARVATION_SECONDS = 3.0
"""Seconds without any call after which one is enough, where otherwise half a slice is waited for."""


class CallLimiter:
    """Gives out the calls of one app: higher priorities first, and within one whoever came first."""

    def __init__(
        self,
        key: BudgetKey,
        limit: ProviderLimit,
        budgets: CallBudgetStore,
        clock: Clock,
        interval: timedelta = DEFAULT_POLL_INTERVAL,
    ) -> None:
        self.key = key
        self.granted = 0
        """Calls given out here since the start."""
        self.calls_per_poll = CallsPerPoll(limit, interval)
        self._limit = limit
        self._budgets = budgets
        self._clock = clock
        self._row_clock = RowClock()
        self._row: BudgetRow | None = None
        self._row_read_at = self._reserved_at = float("-inf")
        self._permits: dict[Priority, Permits] = {}
        self._queue: list[Waiter] = []
        self._reserver: Waiter | None = None
        self._order = count()
        self._retry_times = RetryTimes(limit)
        self._pause_logged = self._closed = False

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def is_paused(self) -> bool:
        """Whether nobody may call, by our own clock of instants; may be asked from any thread."""
        return bool(self._row and self._row.paused_until > self._clock.now().timestamp() * MICROS_PER_SECOND)

    @property
    def pause_seconds(self) -> float:
        """Seconds until anybody may call."""
        return max(0.0, (self._row.paused_until - self._now()) / MICROS_PER_SECOND) if self._row else 0.0

    async def acquire(self, priority: Priority, *, once: bool = False) -> None:
        """Return once a call may be made; else BudgetSpent. ``once``: nobody would ask for it again."""
        if self._is_hopeless(priority):
            raise BudgetSpent(self._retry_times.next_wait(priority, self.pause_seconds))
        if (
            self._is_row_fresh()
            and not self.pause_seconds
            and not self._has_earlier_waiter(priority)
            and self._use_permit(priority)
        ):
            return
        waiter = Waiter(priority, next(self._order))
        insort(self._queue, waiter, key=lambda each: (-each.priority, each.order))
        if self._reserver and self._queue[0] is waiter:
            self._reserver.wakeup.set()
        try:
            with anyio.move_on_after(MAX_WAIT_SECONDS[priority]) as wait_scope:
                await self._wait(waiter, wait_scope, once=once)
        finally:
            self._leave(waiter)
        if not waiter.granted:
            raise BudgetSpent(self._retry_times.next_wait(priority, self.pause_seconds))

    def close(self) -> None:
        """Let those go who wait, and nobody wait any more, but for what is asked once: the rest is had elsewhere."""
        self._closed = True
        for waiter in self._queue:
            waiter.wakeup.set()

    async def pause(self, sent: float, wait: float | None) -> float:
        """Pause everybody, since a call sent at such a moment was refused; return for how many seconds."""
        self._update_row(self._with_pause(self._row, sent, wait))  # whatever becomes of the row, we stop here
        with suppress(StoreError):
            await self._write_pause(sent, wait)
        return self.pause_seconds

    @retrying(StaleRead, TransactionConflict)
    async def _write_pause(self, sent: float, wait: float | None) -> None:
        row = await self._budgets.get(self.key)
        after = self._with_pause(row, sent, wait)
        if after != row:
            await self._budgets.replace(self.key, row, after)
        self._update_row(after)

    def _with_pause(self, row: BudgetRow | None, sent: float, wait: float | None) -> BudgetRow:
        row = row or BudgetRow()
        self._row_clock = self._row_clock.advance(row.at, anyio.current_time())
        return pause_after(row, self._now(), self._row_clock.at(sent), wait)

    def _now(self) -> int:
        """Return the row's time; what this process's clock says counts only while it is ahead."""
        now = anyio.current_time()
        self._row_clock = self._row_clock.advance(round(self._clock.now().timestamp() * MICROS_PER_SECOND), now)
        return self._row_clock.at(now)

    def _is_hopeless(self, priority: Priority) -> bool:
        if self.pause_seconds > MAX_WAIT_SECONDS[priority]:
            return True
        if priority < Priority.LIVE:
            return sum(each.priority < Priority.LIVE for each in self._queue) >= MAX_WAITING_LOW
        return priority == Priority.LIVE and len(self._queue) >= MAX_WAITING

    def _has_earlier_waiter(self, priority: Priority) -> bool:
        return bool(self._queue) and self._queue[0].priority >= priority

    def _is_row_fresh(self) -> bool:
        """Whether the row was read so lately that nobody can have paused us for long."""
        return anyio.current_time() - self._row_read_at <= RECHECK_SECONDS

    async def _wait(self, waiter: Waiter, wait_scope: anyio.CancelScope, *, once: bool) -> None:
        """Wait to be served; whoever of the waiting comes first asks the row for all."""
        while not waiter.granted and (once or not self._closed):
            wait = float("inf")
            if self._reserver in (None, waiter):
                self._reserver = waiter
                waiter.wakeup = anyio.Event()
                wait = await self._reserve()
                if self.pause_seconds > wait_scope.deadline - anyio.current_time():
                    return
            if not waiter.granted:
                with anyio.move_on_after(wait):
                    await waiter.wakeup.wait()
                waiter.wakeup = anyio.Event()

    def _leave(self, waiter: Waiter) -> None:
        """Go; if it was us who asked the row, the first of those left does."""
        if not waiter.granted:
            self._queue.remove(waiter)
        if self._reserver is waiter:
            self._reserver = None
            if self._queue:
                self._queue[0].wakeup.set()

    async def _reserve(self) -> float:
        """Give calls to those who wait; return in how many seconds there may be more."""
        row = await self._budgets.get(self.key)
        self._update_row(row or BudgetRow())
        if self.pause_seconds:
            return self.pause_seconds
        self._grant_waiting()
        if not self._queue:
            return 0.0
        priority, started_at = self._queue[0].priority, anyio.current_time()
        max_calls, min_calls = self._reservation_bounds(priority)
        reservation = self._limit.reserve(
            row or BudgetRow(), self._now(), priority, max_calls=max_calls, min_calls=min_calls
        )
        if not reservation.calls:
            return reservation.wait + self._fairness_delay()
        try:
            await self._budgets.replace(self.key, row, reservation.after)
        except (StaleRead, TransactionConflict):
            return self._fairness_delay()
        self._update_row(reservation.after)
        self._permits[priority] = Permits(reservation.calls, started_at + RESERVATION_SECONDS)
        self._reserved_at = started_at
        self._grant_waiting()
        return 0.0

    def _fairness_delay(self) -> float:
        return uniform(MIN_JITTER_SECONDS, MAX_JITTER_SECONDS) + FAIRNESS_SECONDS / (
            1 + (anyio.current_time() - self._reserved_at) / FAIRNESS_HALF_LIFE
        )

    def _reservation_bounds(self, priority: Priority) -> tuple[int, int]:
        """Return how many calls to take at most, and with how few to be content: each taking is a write."""
        waiting = sum(each.priority >= priority for each in self._queue)
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
        """Use up a call at hand, one taken for the lowest priority first."""
        for permit_priority, permits in sorted(self._permits.items()):
            if permit_priority <= priority and permits.remaining and anyio.current_time() < permits.valid_until:
                permits.remaining -= 1
                self.granted += 1
                return True
        return False

    def _update_row(self, row: BudgetRow) -> None:
        self._row_read_at = anyio.current_time()
        self._row = row
        self._row_clock = self._row_clock.advance(row.at, self._row_read_at)
        pause = self.pause_seconds
        if pause and not self._pause_logged:
            log.warning(
                "the provider asks us to call less", action="budget_paused", app=self._name, seconds=round(pause)
            )
            self._pause_logged = True
        elif self._pause_logged and not pause:
            log.info("calling again", action="budget_resumed", app=self._name)
            self._pause_logged = False

    @property
    def _name(self) -> str:
        return f"{self.key.provider}/{self.key.region}"
