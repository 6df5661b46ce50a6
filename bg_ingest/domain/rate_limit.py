"""How often somebody may come: steadily so many a second, and some of it at once."""

from collections.abc import Hashable

MAX_KEYS = 10_000
"""Of whom anything is remembered. Beyond it, who has not come for the longest is taken for new."""


class RateLimiter:
    """Counts for everybody by themselves, each by one number: when all they took will be made up for."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._interval = 1 / per_second
        self._tolerance = (burst - 1) / per_second
        self._arrivals: dict[Hashable, float] = {}

    def acquire(self, key: Hashable, now: float) -> float:
        """Take one at a time that never goes back, in seconds; return 0, or how long to wait where none is left."""
        arrival = max(now, self._arrivals.pop(key, now))
        wait = arrival - self._tolerance - now
        self._arrivals[key] = arrival if wait > 0 else arrival + self._interval
        if len(self._arrivals) > MAX_KEYS:
            del self._arrivals[next(iter(self._arrivals))]
        return max(0.0, wait)
