"""A user's long times in virtual time: a week with all actors, and months of polls one after the other."""

from datetime import timedelta

import anyio
import msgspec

from bg_ingest.domain.connections import Defaults
from bg_ingest.domain.leases import ALONE, SHARED
from bg_ingest.domain.windows import Window
from bg_ingest.simulator import REPLAY_USER, SimulatorOptions
from tests.benchmarks.capacity import Metered, Units
from tests.benchmarks.operations import ADA, Bench
from tests.benchmarks.wearer import DAY
from tests.house import house
from tests.reading import recorded

HOUR, WEEK = timedelta(hours=1), 7 * DAY
SHARING = {"owner", "owners", "shards"}
"""Kinds of items by which processes share users."""

NO_PAST = Defaults(backfill_days=0)


class Week(msgspec.Struct, frozen=True):
    """What a week of one user took, by kind of item."""

    readings: int
    by_kind: dict[str, Units]
    idle: Units
    """Of a process that has nobody to poll for, in the same time."""

    @property
    def used(self) -> Units:
        """What the user took; how processes share users is counted in ``idle``."""
        return sum((used for kind, used in self.by_kind.items() if kind not in SHARING), start=Units())


async def week(wearer: SimulatorOptions) -> Week:
    """Let the whole service run for a week beyond the first day of a connection.

    Sharing users with other processes is counted in an hour of its own: its beats of seconds make a week of them long.
    """
    idle_hour = await _idle_hour(wearer)
    async with house(simulated=wearer, around=Metered, defaults=NO_PAST) as home:
        home.services.tempo = ALONE
        async with home.running():
            metered = Bench(home).metered
            await home.connect(ADA.user, REPLAY_USER)
            await anyio.sleep(DAY.total_seconds())
            before, start = dict(metered.by_kind), home.clock.now()
            await anyio.sleep(WEEK.total_seconds())
            by_kind = {kind: used - before.get(kind, Units()) for kind, used in metered.by_kind.items()}
            window = Window(start, home.clock.now())
            stored = await recorded(home.services.store.readings, ADA.user, window)
            of_week = sum(window.start <= each.recorded_at < window.end for each in stored)
            return Week(of_week, by_kind, idle_hour.times(WEEK / HOUR))


async def _idle_hour(wearer: SimulatorOptions) -> Units:
    async with house(simulated=wearer, around=Metered, defaults=NO_PAST) as home:
        home.services.tempo = SHARED
        async with home.running():
            await anyio.sleep(HOUR.total_seconds())  # at the start everything is looked into once more
            looked = Bench(home).metered.used
            await anyio.sleep(HOUR.total_seconds())
            return Bench(home).metered.used - looked


class Polled(msgspec.Struct, frozen=True):
    """Days whose readings came three at a time."""

    readings: int
    writes: float
    reads_of_range: float


async def polled(wearer: SimulatorOptions, days: int) -> Polled:
    """Poll for so many days, tell each change, then ask for them all."""
    async with house(simulated=wearer, around=Metered, defaults=NO_PAST) as home:
        bench = Bench(home)
        await home.connect(ADA.user, REPLAY_USER)
        await bench.turn()
        before, end = bench.metered.used, home.clock.now() + days * DAY
        while home.clock.now() < end:
            await bench.next_poll()
            await bench.tell(await bench.at_hand())
        spent = bench.metered.used - before
        asked = bench.metered.used
        found = await bench.ask(days)
        return Polled(found, spent.writes, (bench.metered.used - asked).reads)
