"""Rate limit per key: a steady rate and a burst."""

from collections.abc import Hashable

MAX_KEYS = 10_000
"""Bound on the remembered keys. Beyond it, the key unused for the longest is treated as new."""


class RateLimiter:
    """GCRA rate limiter; stores one theoretical arrival time per key."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._interval = 1 / per_second
        self._tolerance = (burst - 1) / per_second
        self._arrivals: dict[Hashable, float] = {}

    def acquire(self, key: Hashable, now: float) -> float:
        """Take one unit and return 0, or return the wait in seconds if none is left.

        ``now`` is monotonic, in seconds.
        """
        arrival = max(now, self._arrivals.pop(key, now))
        wait = arrival - self._tolerance - now
        self._arrivals[key] = arrival if wait > 0 else arrival + self._interval
        if len(self._arrivals) > MAX_KEYS:
            del self._arrivals[next(iter(self._arrivals))]
        return max(0.0, wait)
