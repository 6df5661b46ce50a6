"""When to look for the next reading: pure arithmetic, so that every process computes the same slot."""

from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from itertools import pairwise
from math import ceil, floor, log2

import msgspec

CADENCES = (60, 300, 900)
"""Seconds between readings of the sensors there are: 1, 5 and 15 minutes."""

MAX_IDLE_INTERVAL = timedelta(hours=1)
"""How far looks may drift apart while nothing comes, unless the interval itself is longer."""

FAST_RETRIES = 4

JITTER_SPAN = timedelta(seconds=30)
"""Over which sensors of the same phase are polled."""


class Rhythm(msgspec.Struct, frozen=True):
    """How a connection's readings come and how often we may look."""

    interval: timedelta
    """The shortest time between two polls."""
    cadence: timedelta
    """Between two readings of this sensor."""
    delay: timedelta
    """From a measurement until the provider shows it."""
    jitter: float
    """The connection's own, in [0, 1)."""
    slowdown: float = 1.0
    """By which the interval is longer, where the provider's limit does not suffice for everybody's."""

    @property
    def slots(self) -> int:
        """The interval in slots of the sensor's grid: at least one."""
        return max(1, ceil(self.interval / self.cadence))

    @property
    def step(self) -> timedelta:
        """The longest time between two polls while readings come."""
        return ceil(self.slots * self.slowdown) * self.cadence

    def step_after(self, anchor: datetime) -> timedelta:
        """Return the time until the next poll: whole slots, as many as are wanted on the average.

        Were parts always rounded up, 5 % too much demand would halve the polls of whoever has one in each slot.
        """
        return floor(self.slots * self.slowdown + self._chance(anchor)) * self.cadence

    def _chance(self, anchor: datetime) -> float:
        """Return a number in [0, 1) that is the same wherever it is computed, and another one at each anchor."""
        digest = blake2b(f"{self.jitter} {anchor.timestamp()}".encode(), digest_size=6).digest()
        return int.from_bytes(digest, "big") / 2**48

    def first_slot(self, anchor: datetime) -> datetime:
        """Return the first slot after an anchor, whether it has passed or not."""
        return anchor + self.step_after(anchor) + self.delay + self.jitter * min(JITTER_SPAN, self.cadence / 4)


def next_poll(anchor: datetime, now: datetime, rhythm: Rhythm) -> datetime:
    """Return the first slot after now at which to look.

    The anchor is the newest reading (or, while there is none, the connect). Slots lie a whole number of intervals
    later, by the delay, on the sensor's own grid, so nothing drifts. While nothing comes, the wait doubles with the
    silence: 1, 1, 2, 4 ... intervals, at most LONGEST_WAIT.
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
    """Return when to try again after so many failures in a row: four times soon (2, 4, 8, 16 s), then at the slot."""
    wait = timedelta(seconds=2.0 ** min(failures, 6))
    if failures > FAST_RETRIES and slot is not None:
        return slot
    return now + wait if slot is None else min(now + wait, slot)


def learn_cadence(measured: list[datetime]) -> timedelta | None:
    """Return the cadence that most neighbouring readings show, or None if they do not say."""
    measured = sorted(set(measured))
    counts = dict.fromkeys(CADENCES, 0)
    for earlier, later in pairwise(measured):
        apart = (later - earlier).total_seconds()
        for cadence in CADENCES:
            if abs(apart - cadence) <= cadence / 10:
                counts[cadence] += 1
    best = max(CADENCES, key=lambda cadence: counts[cadence])
    return timedelta(seconds=best) if counts[best] >= 3 and counts[best] * 2 > len(measured) - 1 else None


DAY = timedelta(days=1)

DAYS_PER_WEEK = 7

_FIRST_DAY = datetime(1970, 1, 1, tzinfo=UTC)


class SweepDepth(msgspec.Struct, frozen=True):
    """How far back the sweeps look; nothing where it is zero."""

    nightly: timedelta = timedelta(days=3)
    weekly: timedelta = timedelta(days=30)

    def due(self, since: datetime, now: datetime, jitter: float) -> timedelta:
        """Return how far back a sweep is due that looks over what was not swept since an instant; zero: none is.

        Each connection has an hour of the day and a day of the week of its own, by its jitter. A week's sweep is one
        of the nightly ones that looks further.
        """
        missed = _days(since, now, jitter)
        weekly = any(day % DAYS_PER_WEEK == int(jitter * 7_000) % DAYS_PER_WEEK for day in missed)
        return max(self.nightly if missed else timedelta(0), self.weekly if weekly else timedelta(0))


def _days(since: datetime, now: datetime, jitter: float) -> list[int]:
    """Number the days whose hour of this connection lies in (since, now]; of a long time the last week is enough."""
    first = (since - _FIRST_DAY - jitter * DAY) // DAY + 1
    last = (now - _FIRST_DAY - jitter * DAY) // DAY
    return list(range(max(first, last - DAYS_PER_WEEK + 1), last + 1))
