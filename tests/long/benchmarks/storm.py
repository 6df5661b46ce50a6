"""Polls of all users due at once after an outage of an hour, at processes that share a provider's limit (case 37).

    python -m tests.long.benchmarks.storm [--people 10000] [--processes 3] [--calls-per-hour 60000]

The code is the service's own over the table in memory, in virtual time; the results do not depend on the machine. The
provider answers 429 for a minute, like a recovering provider, and at each call beyond its limit.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta

import anyio
import msgspec
import structlog

from bg_ingest.adapters.sqlite import open_table
from bg_ingest.domain.call_budget import ProviderLimit
from bg_ingest.domain.grants import Credentials
from bg_ingest.domain.ownership import SHARED_TIMINGS
from bg_ingest.domain.windows import Window
from bg_ingest.errors import ProviderThrottled
from bg_ingest.observability.replica import ReplicaCollector
from bg_ingest.ports import Page, Priority
from bg_ingest.ports.table import Put
from tests.conftest import VirtualTimeLoop
from tests.harness.service import LoopClock
from tests.long.benchmarks.capacity import MeteredTable
from tests.long.benchmarks.crowd import CrowdProvider, build_process, rows_of
from tests.long.chaos.report import console
from tests.properties.test_budget import max_within
from workers.build import Workers

OUTAGE = timedelta(hours=1)
REFUSING, RETURN_AFTER = 60.0, timedelta(seconds=20)
"""Seconds in which the provider answers 429, and seconds of each Retry-After."""

MAX_SPREAD_RATIO = 2.0
"""Largest time until all users are polled, as a multiple of the time of their calls at the limit's rate."""


class RefusingCrowd(CrowdProvider):
    """A recovering provider that counts its calls."""

    def __init__(self, clock: LoopClock, people: int, calls_per_hour: int) -> None:
        super().__init__(clock)
        self._users = people
        self._limit = calls_per_hour
        self._began = anyio.current_time()
        self.answered: list[float] = []
        self.refused_at_first = self.exceeded = 0
        self.first: dict[str, float] = {}
        """Time of the first poll of each user."""
        self.all_polled = anyio.Event()

    async def readings(self, region: str, credentials: Credentials, window: Window, priority: Priority) -> Page:
        now = anyio.current_time() - self._began
        if now < REFUSING:
            self.refused_at_first += 1
            raise ProviderThrottled(RETURN_AFTER)
        self.answered.append(now)
        if sum(each > now - 3600 for each in self.answered[-self._limit - 1 :]) > self._limit:
            self.exceeded += 1
            raise ProviderThrottled(RETURN_AFTER)
        page = await super().readings(region, credentials, window, priority)
        self.first.setdefault(page.provider_account or "", now)
        if len(self.first) == self._users:
            self.all_polled.set()
        return page


class StormResult(msgspec.Struct, frozen=True):
    """Results of a run."""

    people: int
    polled: int
    last_after: float
    """Seconds from the start until the first poll of the last user."""
    halfway: float
    calls: int
    max_per_minute: int
    refused_at_first: int
    exceeded: int
    stale: tuple[int, int]
    """Connections without a reading since the outage according to the metrics: at the start, and at the end."""
    by_process: Sequence[int]
    """Calls of the budget used by each process."""
    read_units: float
    """Units of all reads of the store."""

    def failures(self, limit: ProviderLimit) -> list[str]:
        """Return the violated expectations."""
        pace = self.calls / limit.rate + REFUSING
        wrong = {
            "not every user was polled": self.polled < self.people,
            "it took too long": self.last_after > MAX_SPREAD_RATIO * pace,
            "the limit was exceeded": self.exceeded > 0,
            "many calls followed the provider's refusals": self.refused_at_first > 100,
            "the metrics do not show the staleness": self.stale != (self.people, 0),
            "one process used the whole budget": min(self.by_process) < max(self.by_process) / 3,
        }
        return [violation for violation, so in wrong.items() if so]


async def run_storm(people: int, processes: int, calls_per_hour: int) -> StormResult:
    """Make polls of all users due at once, and wait until each user was polled or an hour has passed."""
    before, clock = LoopClock(), LoopClock()
    clock.skip(OUTAGE)
    async with open_table(None, clock) as memory, AsyncExitStack() as opened:
        for number in range(people):
            await memory.transact([Put(key, item) for key, item in rows_of(number, people, before.now(), 1.0)])
        crowd, each, actors = RefusingCrowd(clock, people, calls_per_hour), [], []
        table = MeteredTable(memory)
        for number in range(processes):
            services, workers = build_process(table, crowd, clock, calls_per_hour)
            services = replace(services, timings=SHARED_TIMINGS, name=f"process-{number}")
            await opened.enter_async_context(workers.running(services))
            each.append(services)
            actors.append(workers)
        await anyio.sleep(REFUSING / 2)
        stale = _stale(actors, clock)
        with anyio.move_on_after(3600):
            await crowd.all_polled.wait()
            await anyio.sleep(1)  # the readings of the last poll are stored
        firsts = sorted(crowd.first.values())
        all_is_fresh = _stale(actors, clock)
        taken = [sum(state.calls for state in services.demand.states()) for services in each]
    return StormResult(
        people,
        len(firsts),
        round(firsts[-1], 1),
        round(firsts[len(firsts) // 2], 1),
        len(crowd.answered),
        max_within(crowd.answered, 60),
        crowd.refused_at_first,
        crowd.exceeded,
        (stale, all_is_fresh),
        taken,
        table.used.reads,
    )


def _stale(actors: Sequence[Workers], clock: LoopClock) -> int:
    shown = [
        sample for each in actors for metric in ReplicaCollector(each, clock).collect() for sample in metric.samples
    ]
    connections = sum(each.value for each in shown if each.name == "bg_ingest_freshness_seconds_gcount")
    within = sum(each.value for each in shown if each.labels.get("le") == f"{OUTAGE.total_seconds()}")
    return int(connections - within)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=10_000)
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--calls-per-hour", type=int, default=60_000)
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    found = anyio.run(
        run_storm,
        given.people,
        given.processes,
        given.calls_per_hour,
        backend_options={"loop_factory": VirtualTimeLoop},
    )
    for name, value in msgspec.structs.asdict(found).items():
        console.print(f"{name.replace('_', ' ')}: {value}")
    failures = found.failures(ProviderLimit(given.calls_per_hour))
    console.print("; ".join(failures) or "all holds")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
