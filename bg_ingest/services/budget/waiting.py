"""State of a call limiter: reserved calls, waiting callers, retry times, calls per poll."""

from datetime import timedelta

import anyio

from bg_ingest.domain.call_budget import ProviderLimit
from bg_ingest.ports import Priority


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
# - 2026-11-28: with at most 24 waiters, two processes that had 230 polls to catch up after a SIGKILL, at 5 spare calls
#   a second, refused polls that then retried behind later arrivals: 26 s late (limit 22.5), where the order of arrival
#   needs 4 s. 128 waiters and 192 polls (64 before) cost a few hundred KB.
# - 2026-11-29: 256 waiters and 320 polls. Of 125 polls that one process took over, some found no room beside its own
#   and were 8 s late instead of 5.
# - 2026-11-29: a process that has just reserved waits 0.2 s more, one that reserved 0.4 s ago 0.1 s. Without that, one
#   of three processes had 15 % of its share in the worst five seconds of five minutes, and one whose store answered in
#   30 ms instead of 6 had 7 % throughout; after a SIGKILL two successors had 21 and 34 calls a second, and polls were
#   23 s late. With it the worst shares are 93 % and 53 %, for as many calls and fewer writes; the burst of the limit
#   bridges the waits.
# - 2026-11-29: a drain waited 1.0 and 1.4 s of its 3 s for polls that only waited for a call. ``close`` releases them,
#   and it ends within 0.5 s. The call of a connect still waits, because nothing would repeat it.


class Waiter:
    """A caller in the queue."""

    __slots__ = ("granted", "order", "priority", "wakeup")

    def __init__(self, priority: Priority, order: int) -> None:
        self.priority = priority
        self.order = order
        self.granted = False
        self.wakeup = anyio.Event()


MIN_WAIT_SECONDS = 1.0


class RetryTimes:
    """Retry times of refused callers, spaced per priority at the rate at which calls become available."""

    def __init__(self, limit: ProviderLimit) -> None:
        self._limit = limit
        self._last: dict[Priority, float] = {}

    def next_wait(self, priority: Priority, pause_seconds: float) -> timedelta:
        """Return the wait before a retry, which is later than all retries of this priority given before."""
        now = anyio.current_time()
        spacing = 100 / (self._limit.rate * priority)
        at = max(self._last.get(priority, 0.0), now + max(MIN_WAIT_SECONDS, pause_seconds)) + spacing
        self._last[priority] = at
        return timedelta(seconds=at - now)


REFRESH_INTERVAL, SWEEP_INTERVAL = timedelta(hours=2), timedelta(days=1)
"""Intervals of a connection's calls other than live polls, whatever its poll interval is."""

DEFAULT_POLL_INTERVAL = timedelta(minutes=15)

DECAY_AFTER, PRIOR_WEIGHT = 1 / 3, 1 / 6
"""Fractions of the hourly limit: observed calls after which the counts are halved; weight of the prior.

A lower expectation would be wrong after a start, when refreshes and sweeps of many connections are overdue.
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
