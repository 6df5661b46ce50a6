"""Simulated Dexcom with a cache of days, because many tests request the same days of the same persons."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from operator import attrgetter

from bg_ingest.simulator import Simulator
from bg_ingest.simulator.readings import SimulatedWearer, TrueReading, Wearer
from bg_ingest.simulator.users import person

EPOCH, DAY = datetime(1970, 1, 1, tzinfo=UTC), timedelta(days=1)

_measured_at = attrgetter("measured_at")


def cache_days(simulator: Simulator) -> None:
    """Compute each day of the simulated persons once for all tests of this process; the readings stay the same."""
    seed, cadence = simulator.options.seed, simulator.options.cadence_minutes
    for number in range(1, simulator.options.users + 1):
        wearer = simulator.wearer(person(number).name)
        simulator.wearers[wearer.name] = CachedWearer(seed, number, cadence, wearer)


class CachedWearer:
    """Simulated person with each day computed once."""

    last = None

    def __init__(self, seed: int, number: int, cadence_minutes: int, wearer: Wearer) -> None:
        self.name, self.title, self.first = wearer.name, wearer.title, wearer.first
        self._of = seed, number, cadence_minutes

    def readings(self, start: datetime, end: datetime) -> Sequence[TrueReading]:
        start = max(start, self.first)
        readings: list[TrueReading] = []
        for day in range((start - EPOCH) // DAY, (end - EPOCH) // DAY + 1):
            readings += _day(*self._of, day)
        return readings[bisect_left(readings, start, key=_measured_at) : bisect_right(readings, end, key=_measured_at)]


@lru_cache(maxsize=1500)
def _day(seed: int, number: int, cadence_minutes: int, day: int) -> Sequence[TrueReading]:
    wearer = SimulatedWearer(seed, person(number), cadence_minutes, EPOCH)
    begins = EPOCH + day * DAY
    return wearer.readings(begins, begins + DAY - timedelta(seconds=1))
