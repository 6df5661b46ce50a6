"""Lateness of polls close to the call limit while processes start, stop and are cut off, in virtual time.

    python -m tests.long.benchmarks.handover [--users 600] [--load 0.97]

The code is the service's own over the table in memory; the results do not depend on the machine. Each user has a
reading every five minutes and a poll for each. A poll that skips a slot is therefore 300 s late.
"""

import argparse
import logging
import sys
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import anyio
import msgspec
import structlog
from anyio.abc import TaskGroup, TaskStatus
from rich.table import Table as ConsoleTable

from bg_ingest.adapters.sqlite import open_table
from bg_ingest.domain.call_budget import ProviderLimit
from bg_ingest.domain.connections import PollDefaults
from bg_ingest.domain.grants import Credentials
from bg_ingest.domain.ownership import SHARED_TIMINGS
from bg_ingest.domain.schedule import JITTER_SPAN
from bg_ingest.domain.windows import Window
from bg_ingest.ports import Page, Priority
from bg_ingest.ports.table import Put, Table
from bg_ingest.providers.dexcom.oauth import parse_tokens
from bg_ingest.services.budget.waiting import CallsPerPoll
from tests.conftest import VirtualTimeLoop
from tests.fakes.faults import CallWrapper
from tests.harness.service import LoopClock
from tests.long.benchmarks.crowd import CADENCE, DELAY, INTERVAL, CrowdProvider, build_process, person, rows_of
from tests.long.chaos.report import console

SLOT = CADENCE.total_seconds()
EARLY_SECONDS = 2.0
"""Seconds by which a poll may precede its due time."""

LATENCY_SECONDS = 0.005
"""Duration of a call to the store."""

MAX_LATE_SECONDS = 1.5 * SHARED_TIMINGS.ttl

FIRST_PHASE, PHASES = "two processes", ("start three", "steady", "stop one", "start one", "steady", "cut off two")
PHASE_SECONDS = 300.0


class RecordingCrowd(CrowdProvider):
    """Records the times of each user's data calls, and the phase of the user's sensor."""

    def __init__(self, clock: LoopClock) -> None:
        super().__init__(clock)
        self.calls: defaultdict[str, list[float]] = defaultdict(list)
        self.phases: dict[str, float] = {}

    async def readings(self, region: str, credentials: Credentials, window: Window, priority: Priority) -> Page:
        user, phase = parse_tokens(credentials.content).access.reveal().split()
        self.phases[user] = float(phase)
        self.calls[user].append(self._clock.now().timestamp())
        return await super().readings(region, credentials, window, priority)

    def lags(self, start: float, end: float) -> list[float]:
        """Return the seconds from each due time in [start, end) until the next call for its user, ascending."""
        found = []
        for user, calls in self.calls.items():
            delay = DELAY + person(int(user.removeprefix("person-"))).jitter * JITTER_SPAN
            due = start + (self.phases[user] + delay.total_seconds() - start) % SLOT
            while due < end:
                following = calls[bisect_left(calls, due - EARLY_SECONDS) :]
                found.append(following[0] - due if following else float("inf"))
                due += SLOT
        return sorted(found)


class SlowTable(CallWrapper):
    """Connection of one process to the table. Once it is cut, no call returns."""

    cut = False

    async def _around(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        await anyio.sleep(float("inf") if self.cut else LATENCY_SECONDS)
        return await call()


class Processes:
    """Processes over one table, by name."""

    def __init__(self, table: Table, crowd: RecordingCrowd, clock: LoopClock, calls_per_hour: int) -> None:
        self._table, self._crowd, self._clock, self._limit = table, crowd, clock, calls_per_hour
        self._tables: dict[str, SlowTable] = {}
        self._stop: dict[str, anyio.Event] = {}

    async def run(self, name: str, *, task_status: TaskStatus[None]) -> None:
        """Run one process until it is stopped."""
        table, stop = self._tables[name], self._stop[name] = SlowTable(self._table), anyio.Event()
        defaults = PollDefaults(poll_interval=CADENCE)
        services, workers = build_process(table, self._crowd, self._clock, self._limit, defaults)
        async with workers.running(replace(services, timings=SHARED_TIMINGS, name=name)):
            task_status.started()
            await stop.wait()

    async def apply(self, phase: str, group: TaskGroup) -> None:
        action, _, name = phase.rpartition(" ")
        if action == "start":
            await group.start(self.run, name)
        elif action == "stop":
            self._stop[name].set()
        elif action == "cut off":
            self._tables[name].cut = True


class PhaseResult(msgspec.Struct, frozen=True):
    """Lateness of the polls that fell due in a phase, in seconds."""

    phase: str
    polls: int
    half: float
    p99: float
    latest: float
    skipped: int
    """Polls that are a slot late."""


async def run_handover(users: int, calls_per_hour: int) -> list[PhaseResult]:
    clock = LoopClock()
    async with open_table(None, clock) as table:
        for number in range(users):
            rows = rows_of(number, users, clock.now(), CADENCE / INTERVAL)
            await table.transact([Put(key, item) for key, item in rows])
        crowd = RecordingCrowd(clock)
        processes, marks = Processes(table, crowd, clock, calls_per_hour), []
        async with anyio.create_task_group() as group:
            for name in ("one", "two"):
                await group.start(processes.run, name)
            await anyio.sleep(SLOT)
            for phase in (FIRST_PHASE, *PHASES, "end"):
                marks.append((phase, clock.now().timestamp()))
                await processes.apply(phase, group)
                await anyio.sleep(PHASE_SECONDS)
            await anyio.sleep(SLOT)
            group.cancel_scope.cancel()
    return [to_result(phase, crowd.lags(start, end)) for (phase, start), (_, end) in pairwise(marks)]


def to_result(phase: str, lags: list[float]) -> PhaseResult:
    half, p99, latest = (round(lags[int(part * (len(lags) - 1))], 2) for part in (0.5, 0.99, 1))
    return PhaseResult(phase, len(lags), half, p99, latest, Counter(lag > SLOT / 2 for lag in lags)[True])


def limit_for(users: int, load: float) -> int:
    """Return the smallest limit an hour of which these users need at most the part ``load`` that live polls may use."""
    calls = 1_000
    while True:
        calls += 10
        limit = ProviderLimit(calls)
        demand = users / SLOT * CallsPerPoll(limit, CADENCE).estimate
        if demand <= load * limit.rate * Priority.LIVE / 100:
            return calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=600)
    parser.add_argument("--load", type=float, default=0.97, help="part of the calls open to live polls that are used")
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    limit = limit_for(given.users, given.load)
    results = anyio.run(run_handover, given.users, limit, backend_options={"loop_factory": VirtualTimeLoop})
    shown = ConsoleTable(*PhaseResult.__struct_fields__, title=f"{given.users:,} users, {limit:,} calls an hour")
    for result in results:
        shown.add_row(*map(str, msgspec.structs.astuple(result)))
    console.print(shown)
    late = [result.phase for result in results if result.latest > MAX_LATE_SECONDS]
    console.print("; ".join(f"late polls: {phase}" for phase in late) or "all holds")
    sys.exit(bool(late))


if __name__ == "__main__":
    main()
