"""Long periods of a user in virtual time: a week with all actors, and months of polls one after the other."""

from datetime import timedelta

import anyio
import msgspec

from bg_ingest.domain.connections import PollDefaults
from bg_ingest.domain.ownership import EXCLUSIVE_TIMINGS, SHARED_TIMINGS
from bg_ingest.domain.windows import Window
from bg_ingest.simulator import REPLAY_USER, SimulatorOptions
from tests.harness.service import open_service
from tests.harness.stored_readings import read_all
from tests.long.benchmarks.capacity import MeteredTable, Units
from tests.long.benchmarks.operations import ADA, OperationBench
from tests.long.benchmarks.steady_sensor import DAY

HOUR, WEEK = timedelta(hours=1), 7 * DAY
SHARING = {"owner", "owners", "shards"}
"""Kinds of items that divide users between processes."""

NO_BACKFILL = PollDefaults(backfill_days=0)


class WeekFigures(msgspec.Struct, frozen=True):
    """Units used by one user in a week, by kind of item."""

    readings: int
    by_kind: dict[str, Units]
    idle: Units
    """Units used in the same time by a process without connections."""

    @property
    def used(self) -> Units:
        """Units used by the user; the division of users between processes is counted in ``idle``."""
        return sum((used for kind, used in self.by_kind.items() if kind not in SHARING), start=Units())


async def measure_week(wearer: SimulatorOptions) -> WeekFigures:
    """Let the whole service run for a week beyond the first day of a connection.

    The division of users between processes is counted in an hour of its own, because a week of its heartbeats, seconds
    apart, would take long to simulate.
    """
    idle_hour = await _idle_hour(wearer)
    async with open_service(over_http=True, simulated=wearer, around=MeteredTable, defaults=NO_BACKFILL) as service:
        service.replace_services(timings=EXCLUSIVE_TIMINGS)
        async with service.running():
            metered = OperationBench(service).metered
            await service.connect(ADA.user, REPLAY_USER)
            await anyio.sleep(DAY.total_seconds())
            before, start = dict(metered.by_kind), service.clock.now()
            await anyio.sleep(WEEK.total_seconds())
            by_kind = {kind: used - before.get(kind, Units()) for kind, used in metered.by_kind.items()}
            window = Window(start, service.clock.now())
            stored = await read_all(service.services.store.readings, ADA.user, window)
            of_week = sum(window.start <= each.recorded_at < window.end for each in stored)
            return WeekFigures(of_week, by_kind, idle_hour.times(WEEK / HOUR))


async def _idle_hour(wearer: SimulatorOptions) -> Units:
    async with open_service(over_http=True, simulated=wearer, around=MeteredTable, defaults=NO_BACKFILL) as service:
        service.replace_services(timings=SHARED_TIMINGS)
        async with service.running():
            await anyio.sleep(HOUR.total_seconds())  # at the start every gap is checked once more
            used_before = OperationBench(service).metered.used
            await anyio.sleep(HOUR.total_seconds())
            return OperationBench(service).metered.used - used_before


class PollMonths(msgspec.Struct, frozen=True):
    """Units of days of polls with three readings each."""

    readings: int
    writes: float
    reads_of_range: float


async def measure_polls(wearer: SimulatorOptions, days: int) -> PollMonths:
    """Poll for a number of days, publish each change, then request all readings."""
    async with open_service(over_http=True, simulated=wearer, around=MeteredTable, defaults=NO_BACKFILL) as service:
        bench = OperationBench(service)
        await service.connect(ADA.user, REPLAY_USER)
        await bench.poll()
        before, end = bench.metered.used, service.clock.now() + days * DAY
        while service.clock.now() < end:
            await bench.next_poll()
            await bench.publish(await bench.cached_changes())
        spent = bench.metered.used - before
        asked = bench.metered.used
        found = await bench.get_range(days)
        return PollMonths(found, spent.writes, (bench.metered.used - asked).reads)
