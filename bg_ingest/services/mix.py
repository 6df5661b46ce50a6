"""How many calls a look costs: its own, and every now and then a refresh or a sweep."""

from datetime import timedelta

from bg_ingest.domain.budget import Limit

REFRESHED, SWEPT = timedelta(hours=2), timedelta(days=1)
"""How often a connection needs another call than a look, however often it is looked at."""

USUAL = timedelta(minutes=15)

REMEMBERED, BELIEVED = 1 / 3, 1 / 6
"""Of an hour's calls: after how many the older ones count half, and how many it takes to unlearn what was expected.

Whoever expected less would find, after a start, that many connections have been due for a while.
"""


class Mix:
    """Counts calls by what they were for, the late ones more than the early ones."""

    def __init__(self, limit: Limit, interval: timedelta = USUAL) -> None:
        """``interval``: how often most connections are looked at."""
        self._most = limit.calls_per_hour * REMEMBERED
        self._looks = limit.calls_per_hour * BELIEVED
        self._others = self._looks * (interval / REFRESHED + interval / SWEPT)

    @property
    def calls_per_look(self) -> float:
        return 1 + self._others / self._looks

    def count(self, *, look: bool) -> None:
        if look:
            self._looks += 1
        else:
            self._others += 1
        if self._looks + self._others > self._most:
            self._looks /= 2
            self._others /= 2
