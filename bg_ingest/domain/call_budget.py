"""Call limit of a provider, shared by all processes: GCRA over one row per app and region.

The module also has a rate limiter in memory, which the API uses.

The row stores the theoretical arrival time: the end of all reserved calls if they follow each other at the even rate. A
call is available while this time is ahead of now by less than the burst. Any interval, wherever it begins, therefore
has at most rate x time + burst calls. Counters per minute would allow two bursts around the end of a minute.

The current time is taken from the row, in microseconds: the latest time of the clocks that wrote the row. A process
that reads the row advances this time by its monotonic clock. A clock that is ahead, by any amount, therefore gains a
single burst of calls; a clock that is behind delays no call.
"""

from collections.abc import Hashable
from math import floor

import msgspec
from msgspec.structs import replace

MICROS_PER_SECOND = 1_000_000

RESERVATION_SECONDS = 60.0
"""Seconds until reserved calls expire. Expired calls are not made, and not returned to the row."""

MARGIN_SECONDS = 73.0
"""Calls of each hour that are left unused, expressed as seconds of the even rate. 60 seconds (``RESERVATION_SECONDS``)
cover calls that were reserved before the hour and are made in it; 13 seconds cover steps of the clocks."""

BURST_DIVISOR, MIN_BURST = 3_000, 4.0
"""The burst in calls is the hour's limit divided by ``BURST_DIVISOR`` (1.2 seconds' worth), and at least
``MIN_BURST``."""

MAX_RESERVATION_SHARE = 0.35
"""Largest part of the burst in one reservation: the distance between the priorities of backfills and live polls (60 and
95 %). As a spent burst recovers, it is available to live polls before the first call is available to backfills."""

FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 30, 900
"""Length of a pause if the provider gives none. It doubles with each consecutive pause."""

REPEAT_WINDOW_SECONDS = 600
"""Two pauses are consecutive if the call that causes the second is sent within this time after the end of the
first."""


class BudgetKey(msgspec.Struct, frozen=True, gc=False):
    """Key of the calls that a provider counts together."""

    provider: str
    app: str
    """Our client id at the provider."""
    region: str

    def __str__(self) -> str:
        return f"{self.provider}#{self.app}#{self.region}"


class CallDemand(msgspec.Struct, frozen=True, gc=False):
    """Call rate of a connection at its configured interval, before any slowdown."""

    key: BudgetKey
    per_second: float


class BudgetRow(msgspec.Struct, frozen=True):
    """Stored row. All fields but ``pauses`` are instants of the row's time. The defaults represent a missing row."""

    theoretical_arrival: int = 0
    """End of all reserved calls at the even rate."""
    at: int = 0
    """Time of the write."""
    paused_until: int = 0
    """No call is made before this."""
    pauses: int = 0
    """Number of consecutive pauses, up to and including the last one."""


class RowClock(msgspec.Struct, frozen=True):
    """Estimate of the row's time in one process. It never goes back, and advances by a monotonic clock."""

    row_time: int = 0
    local_time: float = 0.0
    """Time of the last update, in seconds of a monotonic clock."""

    def at(self, local_time: float) -> int:
        return self.row_time + round((local_time - self.local_time) * MICROS_PER_SECOND)

    def advance(self, row_time: int, local_time: float) -> "RowClock":
        """Return the later of this time and the time seen in a row or on a wall clock."""
        return RowClock(row_time, local_time) if row_time > self.at(local_time) else self


class Reservation(msgspec.Struct, frozen=True):
    """Calls available now, and the row after their reservation; or no calls, and the time until the next attempt."""

    calls: int
    after: BudgetRow
    wait: float = 0.0
    """Seconds."""


class ProviderLimit(msgspec.Struct, frozen=True):
    calls_per_hour: int

    @property
    def burst(self) -> float:
        """Largest number of calls available at once, after an idle time."""
        return max(self.calls_per_hour / BURST_DIVISOR, MIN_BURST)

    @property
    def rate(self) -> float:
        """Calls per second, 98 % of the limit. An hour's calls, the burst and the margin add up to the limit."""
        return (self.calls_per_hour - self.burst) / (3600 + MARGIN_SECONDS)

    @property
    def emission_interval(self) -> float:
        """Microseconds between two calls at the even rate."""
        return MICROS_PER_SECOND / self.rate

    @property
    def max_reservation(self) -> int:
        """Largest number of calls reserved at once; see ``MAX_RESERVATION_SHARE``."""
        return max(1, floor(self.burst * MAX_RESERVATION_SHARE))

    def ceiling(self, priority: int) -> int:
        """Return the part of the burst open to a priority, in calls; a priority is a percentage of the burst."""
        return max(1, floor(self.burst * priority / 100))

    def reserve(self, row: BudgetRow, now: int, priority: int, *, max_calls: int, min_calls: int = 1) -> Reservation:
        """Reserve up to ``max_calls``; none if fewer than ``min_calls`` are available below the priority's ceiling."""
        if row.paused_until > now:
            return Reservation(0, row, (row.paused_until - now) / MICROS_PER_SECOND)
        begin = max(row.theoretical_arrival, now)
        room = self.ceiling(priority) - (begin - now) / self.emission_interval
        min_calls = min(min_calls, self.ceiling(priority))
        if room < min_calls:
            return Reservation(0, row, (min_calls - room) * self.emission_interval / MICROS_PER_SECOND)
        calls = min(max_calls, floor(room))
        arrival = begin + floor(calls * self.emission_interval)
        return Reservation(calls, replace(row, theoretical_arrival=arrival, at=now))


def pause_after(row: BudgetRow, now: int, sent: int, wait: float | None) -> BudgetRow:
    """Return the row after the refusal of a call made at ``sent``. ``wait`` is the requested pause in seconds.

    ``now`` and ``sent`` are times of the row, in microseconds. Calls sent before the end of a pause belong to this
    pause: their refusals can only extend it, to the latest requested end.
    """
    requested = 0 if wait is None else round(max(wait, 1.0) * MICROS_PER_SECOND)
    if sent <= row.paused_until:
        if now + requested <= row.paused_until:
            return row
        return replace(row, at=now, paused_until=now + requested) if requested else row
    follows = row.pauses and sent - row.paused_until < REPEAT_WINDOW_SECONDS * MICROS_PER_SECOND
    pauses = row.pauses + 1 if follows else 1
    length = requested or min(FIRST_PAUSE_SECONDS * 2 ** min(pauses - 1, 16), MAX_PAUSE_SECONDS) * MICROS_PER_SECOND
    return replace(row, at=now, paused_until=now + length, pauses=pauses)


def slowdown(demand: float, limit: ProviderLimit, share: int) -> float:
    """Return the factor on all intervals that reduces a demand in calls per second to ``share`` percent of the limit.

    It is at least 1. All processes compute the same factor, because each reads the demands of all.
    """
    return max(1.0, demand / (limit.rate * share / 100))


MAX_KEYS = 10_000
"""Bound on the stored keys. Beyond it, the least recently used key is dropped."""


class RateLimiter:
    """GCRA rate limiter; stores one theoretical arrival time per key."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._interval = 1 / per_second
        self._tolerance = (burst - 1) / per_second
        self._arrivals: dict[Hashable, float] = {}

    def acquire(self, key: Hashable, now: float) -> float:
        """Take one unit and return 0, or return the wait in seconds if none is left. ``now`` is a monotonic time."""
        wait = self.wait(key, now)
        arrival = max(now, self._arrivals.pop(key, now))
        self._arrivals[key] = arrival if wait > 0 else arrival + self._interval
        if len(self._arrivals) > MAX_KEYS:
            del self._arrivals[next(iter(self._arrivals))]
        return wait

    def wait(self, key: Hashable, now: float) -> float:
        """Return the seconds until a unit is available, without taking it."""
        return max(0.0, self._arrivals.get(key, now) - self._tolerance - now)
