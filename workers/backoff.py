"""Delays before restarts of crashed actors, and the limit of restarts."""

import random
from collections.abc import Callable

import msgspec


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """Exponential backoff with jitter, in seconds; a run of at least ``reset_after`` resets it.

    Without jitter, all replicas that lost the broker at the same time would reconnect at the same time.
    """

    first: float = 1.0
    ceiling: float = 300.0
    reset_after: float = 600.0
    jitter: Callable[[float, float], float] = random.uniform

    def delay(self, failures: int) -> float:
        """Return the delay after this many consecutive failures (1 or more)."""
        doublings = min(failures - 1, 32)  # exceeds any ceiling; 2.0**1024 would overflow
        max_delay = min(self.ceiling, self.first * 2.0**doublings)
        return self.jitter(max_delay / 2, max_delay)


class CrashLimit(msgspec.Struct, frozen=True, kw_only=True):
    """Number of crashes within a number of seconds after which the actor is not restarted."""

    crashes: int = 10
    within: float = 600.0
