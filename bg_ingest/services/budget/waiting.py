"""Parts of a call limiter: reserved calls, waiting callers, retry times, calls per poll, and the shared row."""

from contextlib import suppress
from datetime import timedelta

import anyio
import structlog

from bg_ingest.domain.call_budget import MICROS_PER_SECOND, BudgetKey, BudgetRow, ProviderLimit, RowClock, pause_after
from bg_ingest.errors import StaleRead, StoreError, TransactionConflict
from bg_ingest.ports import Clock, Priority
from bg_ingest.services.retries import retrying
from bg_ingest.store.call_budget import CallBudgetStore


class Permits:
    """Reserved calls for one priority and all higher ones."""

    __slots__ = ("remaining", "size", "valid_until")

    def __init__(self, size: int, valid_until: float) -> None:
        self.size = self.remaining = size
        self.valid_until = valid_until

    @property
    def next_size(self) -> int:
        """Size of the next reservation: twice this one if all calls were used, else the number used."""
        return max(1, self.size - self.remaining) if self.remaining else 2 * self.size


# Tuning of the waiting callers (MAX_WAITING, FAIRNESS_SECONDS, CallLimiter.close):
# - 2026-11-28: 128 waiters instead of 24, and 192 concurrent polls instead of 64. The increase costs a few hundred KB.
#   Before, polls that found no place in the queue of waiters retried behind polls that arrived later. After a SIGKILL
#   with 230 overdue polls in two processes, some were 26 s late, and at most 22.5 s are allowed.
# - 2026-11-29: 256 waiters and 320 concurrent polls. Before, a process that got 125 polls by a take-over had no room
#   for some of them beside its own. The polls without room were 8 s late, the others 5 s.
# - 2026-11-29: a process that has just reserved waits 0.2 s more, and one that reserved 0.4 s ago waits 0.1 s more.
#   Before, one of three processes had 15 % of its share of the calls in the worst five seconds of five minutes; now at
#   least 93 %. A process whose store answered in 30 ms instead of 6 ms had 7 % of its share throughout; now at least
#   53 %. The two successors of a process that was ended by SIGKILL had 21 and 34 calls per second, and polls of the
#   slower one were 23 s late. The additional wait saves writes. It loses no calls, because calls that become available
#   meanwhile collect in the burst.
# - 2026-11-29: in two runs, 1.0 and 1.4 s of the 3 s for a drain passed while polls only waited for a call. ``close``
#   ends these waits, and the drain ends within 0.5 s. The call of a connect still waits, because nothing repeats it.


class Waiter:
    """A caller in the queue."""

    __slots__ = ("granted", "order", "priority", "wakeup")

    def __init__(self, priority: Priority, order: int) -> None:
        self.priority = priority
        self.order = order
        self.granted = False
        self.wakeup = anyio.Event()


MIN_RETRY_WAIT_SECONDS = 1.0


class RetryTimes:
    """Retry times of refused callers, spaced per priority at the rate at which calls become available."""

    def __init__(self, limit: ProviderLimit) -> None:
        self._limit = limit
        self._last: dict[Priority, float] = {}

    def next_wait(self, priority: Priority, pause_seconds: float) -> timedelta:
        """Return the wait before a retry. The retry is later than all retries returned before for this priority."""
        now = anyio.current_time()
        spacing = 100 / (self._limit.rate * priority)
        at = max(self._last.get(priority, 0.0), now + max(MIN_RETRY_WAIT_SECONDS, pause_seconds)) + spacing
        self._last[priority] = at
        return timedelta(seconds=at - now)


REFRESH_INTERVAL, SWEEP_INTERVAL = timedelta(hours=2), timedelta(days=1)
"""Intervals of a connection's refreshes and sweeps. They do not depend on its poll interval."""

DEFAULT_POLL_INTERVAL = timedelta(minutes=15)

DECAY_AFTER, PRIOR_WEIGHT = 1 / 3, 1 / 6
"""Fractions of the hourly limit. ``CallsPerPoll`` halves its two counts once their sum exceeds ``DECAY_AFTER``.

The counts start with ``PRIOR_WEIGHT`` polls, and with the usual number of refreshes and sweeps for so many polls. With
a lower first estimate, many connections would be overdue after a start.
"""


class CallsPerPoll:
    """Average number of calls per live poll; recent calls count more than older ones."""

    def __init__(self, limit: ProviderLimit, interval: timedelta = DEFAULT_POLL_INTERVAL) -> None:
        """``interval`` is the poll interval of most connections."""
        self._max_weight = limit.calls_per_hour * DECAY_AFTER
        self._polls = limit.calls_per_hour * PRIOR_WEIGHT
        self._others = self._polls * (interval / REFRESH_INTERVAL + interval / SWEEP_INTERVAL)

    @property
    def estimate(self) -> float:
        return 1 + self._others / self._polls

    def count(self, *, is_poll: bool) -> None:
        if is_poll:
            self._polls += 1
        else:
            self._others += 1
        if self._polls + self._others > self._max_weight:
            self._polls /= 2
            self._others /= 2


log: structlog.stdlib.BoundLogger = structlog.get_logger()

RECHECK_SECONDS = 2.0
"""Age in seconds from which the row is read again before a reserved call is used. Another process may have paused all
callers."""


class SharedRow:
    """Last known state of the shared budget row, with the clock and the pause of the row."""

    def __init__(self, key: BudgetKey, store: CallBudgetStore, clock: Clock) -> None:
        self._key = key
        self._store = store
        self._clock = clock
        self._row_clock = RowClock()
        self._row: BudgetRow | None = None
        self._read_at = float("-inf")
        self._pause_logged = False

    @property
    def is_paused(self) -> bool:
        """True while calls are paused, by the wall clock of this process. Thread-safe."""
        return bool(self._row and self._row.paused_until > self._clock.now().timestamp() * MICROS_PER_SECOND)

    @property
    def pause_seconds(self) -> float:
        """Seconds until calls are allowed."""
        return max(0.0, (self._row.paused_until - self.now()) / MICROS_PER_SECOND) if self._row else 0.0

    @property
    def is_fresh(self) -> bool:
        """True if the row was read within ``RECHECK_SECONDS``. Reserved calls are then used without another read.

        For these calls, a new read could only reveal a pause that another process has written since.
        """
        return anyio.current_time() - self._read_at <= RECHECK_SECONDS

    def now(self) -> int:
        """Return the time of the row, or of this process's wall clock if that is later."""
        now = anyio.current_time()
        self._row_clock = self._row_clock.advance(round(self._clock.now().timestamp() * MICROS_PER_SECOND), now)
        return self._row_clock.at(now)

    async def read(self) -> BudgetRow | None:
        row = await self._store.get(self._key)
        self._update(row or BudgetRow())
        return row

    async def replace(self, before: BudgetRow | None, after: BudgetRow) -> None:
        await self._store.replace(self._key, before, after)
        self._update(after)

    async def pause(self, sent: float, wait: float | None) -> None:
        """Pause all callers, because a call sent at ``sent`` was refused."""
        self._update(self._with_pause(self._row, sent, wait))  # holds in this process even if the row cannot be written
        with suppress(StoreError):
            await self._write_pause(sent, wait)

    @retrying(StaleRead, TransactionConflict)
    async def _write_pause(self, sent: float, wait: float | None) -> None:
        row = await self._store.get(self._key)
        after = self._with_pause(row, sent, wait)
        if after != row:
            await self._store.replace(self._key, row, after)
        self._update(after)

    def _with_pause(self, row: BudgetRow | None, sent: float, wait: float | None) -> BudgetRow:
        row = row or BudgetRow()
        self._row_clock = self._row_clock.advance(row.at, anyio.current_time())
        return pause_after(row, self.now(), self._row_clock.at(sent), wait)

    def _update(self, row: BudgetRow) -> None:
        self._read_at = anyio.current_time()
        self._row = row
        self._row_clock = self._row_clock.advance(row.at, self._read_at)
        pause, app = self.pause_seconds, f"{self._key.provider}/{self._key.region}"
        if pause and not self._pause_logged:
            log.warning("the provider asks us to call less", action="budget_paused", app=app, seconds=round(pause))
            self._pause_logged = True
        elif self._pause_logged and not pause:
            log.info("calling again", action="budget_resumed", app=app)
            self._pause_logged = False
