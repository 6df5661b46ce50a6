"""How long a crashed actor waits before it runs again, and when waiting is no longer the answer."""

import random
from collections.abc import Callable

import msgspec


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """Exponential delays with jitter, forgotten once a run has lasted long enough.

    Seconds throughout. Without jitter, all replicas that lost the broker together would come back together.
    """

    first: float = 1.0
    ceiling: float = 300.0
    reset_after: float = 600.0
    jitter: Callable[[float, float], float] = random.uniform

    def delay(self, failures: int) -> float:
        """Return the wait after this many failures in a row (1 or more)."""
        doublings = min(failures - 1, 32)  # beyond any ceiling, and 2.0**1024 would overflow
        max_delay = min(self.ceiling, self.first * 2.0**doublings)
        return self.jitter(max_delay / 2, max_delay)


class CrashLimit(msgspec.Struct, frozen=True, kw_only=True):
    """So many crashes within so many seconds, and restarting the actor is not going to help."""

    crashes: int = 10
    within: float = 600.0
