"""When those who cannot have a call now come back: one after the other, not all at once."""

from datetime import timedelta

import anyio

from bg_ingest.domain.budget import Limit
from bg_ingest.ports import Priority

SOONEST = 1.0
"""Seconds."""


class Tickets:
    """Numbers to be called up, per priority, at the rate at which calls can be had."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._last: dict[Priority, float] = {}

    def next(self, priority: Priority, paused_for: float) -> timedelta:
        """Return when to come back, later than everybody who was told before."""
        now = anyio.current_time()
        between = 100 / (self._limit.rate * priority)
        at = max(self._last.get(priority, 0.0), now + max(SOONEST, paused_for)) + between
        self._last[priority] = at
        return timedelta(seconds=at - now)
