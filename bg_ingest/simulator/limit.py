"""Call limit of the application: Dexcom counts the calls of all users together."""

from collections import deque
from datetime import datetime

_WINDOW_MINUTES = 60


class CallLimit:
    """Rolling by minutes: the calls of a minute count until sixty minutes after it. Refused calls do not count."""

    def __init__(self, calls_per_hour: int) -> None:
        self.calls_per_hour = calls_per_hour
        self.taken = 0
        self.max_taken = 0
        self.refused = 0
        self._minutes: deque[list[int]] = deque()

    def acquire(self, now: datetime) -> bool:
        """Count a call and return True if it is allowed."""
        minute = int(now.timestamp()) // 60
        while self._minutes and self._minutes[0][0] <= minute - _WINDOW_MINUTES:
            self.taken -= self._minutes.popleft()[1]
        if self.taken >= self.calls_per_hour:
            self.refused += 1
            return False
        if not self._minutes or self._minutes[-1][0] != minute:
            self._minutes.append([minute, 0])
        self._minutes[-1][1] += 1
        self.taken += 1
        self.max_taken = max(self.max_taken, self.taken)
        return True
