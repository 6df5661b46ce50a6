"""Due times of polls and sweeps: pure arithmetic, so that every process computes the same slot."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from math import ceil, floor, log2

import msgspec

CADENCE_SECONDS = (60, 300, 900)
"""Distances between readings of the known sensors: 1, 5 and 15 minutes."""

MAX_IDLE_INTERVAL = timedelta(hours=1)
"""Longest time between polls while no reading arrives, unless the interval itself is longer."""

MAX_FAST_RETRIES = 4

JITTER_SPAN = timedelta(seconds=30)
"""Longest time over which the polls of sensors with the same phase are spread, or a quarter of the cadence if that is
shorter."""

DAY = timedelta(days=1)
DAYS_PER_WEEK = 7
_FIRST_DAY = datetime(1970, 1, 1, tzinfo=UTC)


class Rhythm(msgspec.Struct, frozen=True):
    """Timing of a connection: the distance and delay of its readings, and its poll interval."""

    interval: timedelta
    """Shortest time between two polls."""
    cadence: timedelta
    """Time between two readings of this sensor."""
    delay: timedelta
    """Time from a measurement until the provider shows it."""
    jitter: float
    """Fixed value of the connection, in [0, 1)."""
    slowdown: float = 1.0
    """Factor on the interval while the provider's limit does not cover the demand of all connections."""

    @property
    def _cadences(self) -> int:
        """Number of cadences in the interval, rounded up."""
        return max(1, ceil(self.interval / self.cadence))

    @property
    def step(self) -> timedelta:
        """Longest time between two polls while readings arrive."""
        return ceil(self._cadences * self.slowdown) * self.cadence

    def step_after(self, anchor: datetime) -> timedelta:
        """Return the time until the next poll: whole cadences, rounded so that the average over many anchors is exact.

        If fractions were always rounded up, a slowdown of 1.05 would turn an interval of one cadence into two, and
        halve the polls of such a connection.
        """
        return floor(self._cadences * self.slowdown + self._chance(anchor)) * self.cadence

    def _chance(self, anchor: datetime) -> float:
        """Return a number in [0, 1) for an anchor: the same in every process, another one for each anchor."""
        digest = blake2b(f"{self.jitter} {anchor.timestamp()}".encode(), digest_size=6).digest()
        return int.from_bytes(digest, "big") / 2**48

    def first_slot(self, anchor: datetime) -> datetime:
        """Return the first slot after an anchor, even if it has passed."""
        return anchor + self.step_after(anchor) + self.delay + self.jitter * min(JITTER_SPAN, self.cadence / 4)


def next_poll(anchor: datetime, now: datetime, rhythm: Rhythm) -> datetime:
    """Return the first slot after ``now``.

    The anchor is the newest reading, or the connect while there is none. Slots follow the anchor at whole intervals
    plus the delay, on the sensor's own grid, so that polls do not drift. While no reading arrives, the time
    between polls doubles with the length of the silence: 1, 1, 2, 4 ... intervals, at most ``MAX_IDLE_INTERVAL``.
    """
    first = rhythm.first_slot(anchor)
    if first > now:
        return first
    step = rhythm.step_after(anchor)
    missed = floor((now - first) / step)
    longest = max(1, floor(MAX_IDLE_INTERVAL / step))
    stride = min(2 ** floor(log2(missed)) if missed else 1, longest)
    return first + (missed // stride + 1) * stride * step


def next_retry(failures: int, now: datetime, slot: datetime | None) -> datetime:
    """Return the time of the retry after a number of consecutive failures.

    The first four retries are 2, 4, 8 and 16 s later, but not after the slot; all others are at the slot. Without
    a slot, the fifth is 32 s later, and all further ones are 64 s later.
    """
    wait = timedelta(seconds=2.0 ** min(failures, 6))
    if failures > MAX_FAST_RETRIES and slot is not None:
        return slot
    return now + wait if slot is None else min(now + wait, slot)


class CadenceCounter:
    """Learns the cadence of a device from its ascending readings."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._distances: Counter[float] = Counter()

    def add(self, second: float) -> None:
        """Count the next reading by its epoch second. Another reading at the same time is ignored."""
        if self._last is not None and second != self._last:
            self._distances[second - self._last] += 1
        self._last = second

    def cadence(self) -> int | None:
        """Return the cadence in seconds that most neighbouring readings show, or None without a clear majority."""
        best = max(CADENCE_SECONDS, key=self._near)
        return best if self._near(best) >= 3 and self._near(best) * 2 > self._distances.total() else None

    def _near(self, cadence: int) -> int:
        """Return the number of distances that differ from the cadence by at most a tenth of it."""
        return sum(count for seconds, count in self._distances.items() if abs(seconds - cadence) <= cadence / 10)


def learn_cadence(measured: list[datetime]) -> timedelta | None:
    """Return the cadence of readings at these times, or None without a clear majority."""
    counter = CadenceCounter()
    for instant in sorted(set(measured)):
        counter.add(instant.timestamp())
    cadence = counter.cadence()
    return None if cadence is None else timedelta(seconds=cadence)


def learn_delay(known: timedelta, age: timedelta, absent_age: timedelta | None, cadence: timedelta) -> timedelta | None:
    """Return the delay of a provider after one poll, or None if the poll shows nothing about it.

    ``age`` is the age of the newest reading. ``absent_age`` is the age of the first new reading at the time of the
    previous poll, which did not show it. If ``age`` is below the known delay, it becomes the delay. If it is less than
    a cadence above the known delay, the delay stays. A greater ``age`` becomes the delay only if ``absent_age`` reached
    the known delay. A late reading followed by a reading in time changes nothing, because ``age`` belongs
    to the newest reading.
    """
    age = max(age, timedelta(0))
    if age < known:
        return age
    if age < known + cadence:
        return known
    return age if absent_age is not None and absent_age >= known else None


class SweepDepth(msgspec.Struct, frozen=True):
    """Depth of daily and weekly sweeps into the past; zero disables a kind."""

    daily: timedelta = timedelta(days=3)
    weekly: timedelta = timedelta(days=30)

    def due(self, since: datetime, now: datetime, jitter: float) -> timedelta:
        """Return the depth of the sweep that is due if the last one was at ``since``; zero if none is due.

        Each connection has its own time of day and day of the week, derived from its jitter. The weekly sweep is one of
        the daily sweeps with a greater depth.
        """
        missed = _days(since, now, jitter)
        weekly = any(day % DAYS_PER_WEEK == int(jitter * 7_000) % DAYS_PER_WEEK for day in missed)
        return max(self.daily if missed else timedelta(0), self.weekly if weekly else timedelta(0))


def _days(since: datetime, now: datetime, jitter: float) -> list[int]:
    """Return the days since 1970 on which this connection's time of day is in (since, now], at most the last seven."""
    first = (since - _FIRST_DAY - jitter * DAY) // DAY + 1
    last = (now - _FIRST_DAY - jitter * DAY) // DAY
    return list(range(max(first, last - DAYS_PER_WEEK + 1), last + 1))
