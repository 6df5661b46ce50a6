"""Readings of single simulated users, cached per month."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache

from bg_ingest.simulator import TrueReading
from bg_ingest.simulator.readings import SimulatedWearer
from bg_ingest.simulator.users import person

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
START = datetime(2026, 4, 1, tzinfo=UTC)
MONTH = timedelta(days=30)
ALL_USERS = range(1, 8)


def wearer(number: int = 1, *, seed: int = 1, cadence: int = 5) -> SimulatedWearer:
    return SimulatedWearer(seed, person(number), cadence, FIRST)


@lru_cache
def month(number: int, *, seed: int = 1, cadence: int = 5) -> tuple[TrueReading, ...]:
    return tuple(wearer(number, seed=seed, cadence=cadence).readings(START, START + MONTH))
