"""How often somebody may come: steadily so many a second, and some of it at once."""

from collections.abc import Hashable

MOST_KNOWN = 10_000
"""Of whom anything is remembered. Beyond it, who has not come for the longest is taken for new."""


class Allowance:
    """Counts for everybody by themselves, each by one number: when all they took will be made up for."""

    def __init__(self, per_second: float, at_once: int) -> None:
        self._interval = 1 / per_second
        self._ahead = (at_once - 1) / per_second
        self._until: dict[Hashable, float] = {}

    def take(self, who: Hashable, now: float) -> float:
        """Take one at a time that never goes back, in seconds; return 0, or how long to wait where none is left."""
        until = max(now, self._until.pop(who, now))
        wait = until - self._ahead - now
        self._until[who] = until if wait > 0 else until + self._interval
        if len(self._until) > MOST_KNOWN:
            del self._until[next(iter(self._until))]
        return max(0.0, wait)
