"""Replicas that share a call budget never exceed the provider's limit, under any faults of clocks and store."""

from collections import deque
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from itertools import count
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bg_ingest.domain.call_budget import (
    MICROS_PER_SECOND,
    RESERVATION_SECONDS,
    BudgetRow,
    ProviderLimit,
    Reservation,
    RowClock,
)
from tests.conftest import examples

LIMIT = ProviderLimit(12_000)
PRIORITIES = (60, 75, 95, 100)
BEGIN, SIMULATED = 1e9, 4_200.0
"""Seconds; every hour in them is checked. Monotonic clocks differ from the clock of instants, as on real machines."""


class Replica:
    """Process with wrong clocks, stale reads, and writes that are late or lose their reply."""

    def __init__(self, world: "World", ahead: float) -> None:
        self._world = world
        self._dice = world.dice
        self._ahead = ahead
        self._booted_at = BEGIN - self._dice.uniform(0, 1e6)
        self._time = RowClock()
        self._read = BudgetRow()
        self._sale = Reservation(0, self._read)
        self._reserved = 0
        self._good_until = 0.0

    def row_time(self, now: float) -> int:
        instant = now - self._booted_at
        self._time = self._time.advance(self._read.at, instant)
        self._time = self._time.advance(round((now + self._ahead) * MICROS_PER_SECOND), instant)
        return self._time.at(instant)

    def read_row(self, now: float) -> None:
        self._read = self._world.row
        self.row_time(now)
        self._world.later(now + self._delay(), self.decide)

    def decide(self, now: float) -> None:
        self._good_until = now + RESERVATION_SECONDS
        priority, most = self._dice.choice(PRIORITIES), self._dice.randint(1, 4)
        self._sale = LIMIT.reserve(self._read, self.row_time(now), priority, max_calls=most)
        if self._sale.calls:
            self._world.later(now + self._delay(), self.write)
        else:
            self._world.later(now + self._dice.uniform(0, 0.5), self.read_row)

    def write(self, now: float) -> None:
        if self._world.row == self._read:
            self._world.row = self._sale.after
            self._world.taken += [now] * self._sale.calls
            if self._dice.random() < 0.99:  # else the reply is lost, and the calls with it
                self._reserved = self._sale.calls
        self.use(now)

    def use(self, now: float) -> None:
        if self._reserved and now < self._good_until:
            self._reserved -= 1
            self._world.made.append(now)
            dallies = not self._world.calm and self._dice.random() < 0.1
            self._world.later(now + (self._dice.uniform(0, RESERVATION_SECONDS) if dallies else 0), self.use)
        else:
            self._reserved = 0
            self._world.later(now + self._delay(), self.read_row)

    def _delay(self) -> float:
        stalled = not self._world.calm and self._dice.random() < 0.02
        return self._dice.uniform(0, 90 if stalled else 0.02)


class World:
    """True time, the stored row, and the processes' next steps."""

    def __init__(self, seed: int, aheads: list[float], *, calm: bool) -> None:
        self.dice = Random(seed)
        self.calm = calm
        self.row = BudgetRow()
        self.taken: list[float] = []
        """Instants at which calls were reserved from the row."""
        self.made: list[float] = []
        """Instants at which they were made."""
        self._order = count()
        self._steps: list[tuple[float, int, Callable[[float], None]]] = []
        for ahead in aheads:
            self.later(BEGIN + self.dice.uniform(0, 60), Replica(self, ahead).read_row)

    def later(self, at: float, step: Callable[[float], None]) -> None:
        heappush(self._steps, (at, next(self._order), step))

    def run(self) -> None:
        while self._steps and self._steps[0][0] < BEGIN + SIMULATED:
            now, _, step = heappop(self._steps)
            step(now)


def max_within(instants: Iterable[float], length: float) -> int:
    """Return the highest number of instants in any half-open interval of this length."""
    recent: deque[float] = deque()
    most = 0
    for instant in instants:
        recent.append(instant)
        while recent[0] <= instant - length:
            recent.popleft()
        most = max(most, len(recent))
    return most


CLOCKS = st.lists(
    st.one_of(st.just(0.0), st.floats(-7200, 7200), st.sampled_from([60.0, -60.0])), min_size=1, max_size=6
)


@settings(max_examples=examples(12))
@given(seed=st.integers(0, 2**32), aheads=CLOCKS)
def test_case_37_no_hour_and_no_minute_has_more_calls_than_the_provider_allows(seed: int, aheads: list[float]) -> None:
    world = World(seed, aheads, calm=seed % 2 == 0)
    world.run()
    leaps = len(set(aheads))  # a clock that is ahead of all earlier ones may restart the burst once
    assert max_within(world.made, 3600) <= LIMIT.calls_per_hour
    assert max_within(world.taken, 60) <= 60 * LIMIT.rate + leaps * LIMIT.burst + 1


def test_the_budget_is_not_left_lying_about_either() -> None:
    """Ten processes with constant demand use nearly all available calls, with any skew of their clocks."""
    world = World(1, [0.0] * 8 + [61.0, -3600.0], calm=True)
    world.run()
    assert max_within(world.made, 3600) > 0.93 * LIMIT.calls_per_hour


@pytest.mark.parametrize("ahead", [60.0, 3600.0, 86_400.0])
def test_a_clock_that_is_ahead_gains_one_burst_and_delays_no_other(ahead: float) -> None:
    world = World(1, [], calm=True)
    normal, fast = Replica(world, 0.0), Replica(world, ahead)
    had = dict.fromkeys((normal, fast), 0)
    now = BEGIN
    while now < BEGIN + 120:
        now += world.dice.uniform(0, 0.02)
        replica = world.dice.choice((normal, fast))
        replica.read_row(now)
        sale = LIMIT.reserve(world.row, replica.row_time(now), 95, max_calls=1)
        world.row = sale.after
        had[replica] += sale.calls
    assert sum(had.values()) <= 120 * LIMIT.rate + 2 * LIMIT.burst
    assert had[normal] > 40 * LIMIT.rate
