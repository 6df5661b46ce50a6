"""The unchanged service with a crowd of users as its provider; metrics are written each second: ``crowded:app``."""

import asyncio  # noqa: TID251 - the loop itself is measured
import os
import resource
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import httpx
import msgspec

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.polling import PollReport, PollState
from bg_ingest.ports import Clock, Provider
from bg_ingest.providers import REGISTRY
from bg_ingest.providers.dexcom.settings import DexcomSettings
from bg_ingest.providers.http import DataClient
from bg_ingest.services import Services
from bg_ingest.services.budget.demand import Demand
from bg_ingest.services.polling.poll import Poller
from tests.long.benchmarks.crowd import PROVIDER, CrowdProvider
from tests.long.benchmarks.crowd_metrics import CrowdMetrics

REPORT, PEOPLE = (os.environ[name] for name in ("SCALE_REPORT", "SCALE_PEOPLE"))  # noqa: TID251 - no settings of the service
PAGE = os.sysconf("SC_PAGE_SIZE")
CHECK_SECONDS = 0.005
"""Seconds between two measurements of the loop's delay."""

DUE: ContextVar[datetime | None] = ContextVar("DUE", default=None)


class LoopWatch:
    """Monitor of the event loop that writes its measurements to a file."""

    def __init__(self) -> None:
        self._started_at = _process_start()
        self._clock = SystemClock()
        self._report = Path(REPORT).open("ab")  # noqa: SIM115 - to the end of the process
        self.lags: list[float] = []
        self.outcomes: Counter[str] = Counter()
        self._polls = 0
        self._pause = 0.0
        self._scheduled_after: float | None = None
        self._ready_after: float | None = None
        self._demand: Demand
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, demand: Demand) -> None:
        self._demand = demand
        self._tasks = [asyncio.create_task(self._measure_pauses()), asyncio.create_task(self._write_reports())]

    def begin_poll(self, poll_at: datetime | None) -> None:
        DUE.set(poll_at if poll_at and poll_at <= self._clock.now() else None)

    def count_call(self) -> None:
        due = DUE.get()
        if due is not None:
            self._polls += 1
            self.lags.append((self._clock.now() - due).total_seconds())

    async def _measure_pauses(self) -> None:
        before = time.monotonic()
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            now = time.monotonic()
            self._pause = max(self._pause, now - before - CHECK_SECONDS)
            before = now

    async def _write_reports(self) -> None:
        while True:
            await asyncio.sleep(1)
            self._report.write(msgspec.json.encode(self._build_metrics()) + b"\n")
            self._report.flush()

    def _build_metrics(self) -> CrowdMetrics:
        seconds, scheduled = self._clock.now().timestamp() - self._started_at, workers.connection_count()
        if scheduled == int(PEOPLE) and self._scheduled_after is None:
            self._scheduled_after = seconds
        if self._ready_after is None and not workers.unready_reasons():
            self._ready_after = seconds
        used = resource.getrusage(resource.RUSAGE_SELF)
        metrics = CrowdMetrics(
            seconds=seconds,
            scheduled=scheduled,
            scheduled_after=self._scheduled_after,
            ready_after=self._ready_after,
            polls=self._polls,
            lags=self.lags,
            outcomes=self.outcomes,
            max_pause=self._pause,
            processor=used.ru_utime + used.ru_stime,
            memory=int(Path("/proc/self/statm").read_text().split()[1]) * PAGE,
            slowdown=max((each.slowdown for each in self._demand.states()), default=1.0),
        )
        self.lags, self._pause = [], 0.0
        return metrics


class TimedPoller:
    """Poller around another one. The due time of a poll is known within its provider calls."""

    def __init__(self, inner: Poller) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def poll(
        self, connection_id: ConnectionId, epoch: int, state: PollState, *, requested: bool = False
    ) -> PollReport:
        watch.begin_poll(state.poll_at)
        report = await self._inner.poll(connection_id, epoch, state, requested=requested)
        watch.outcomes[f"{report.origin or 'nothing'}: {report.result.outcome}"] += 1
        return report


def _process_start() -> float:
    """Return the start time of this process in epoch seconds."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    booted = next(int(line.split()[1]) for line in Path("/proc/stat").read_text().splitlines() if "btime" in line)
    return booted + ticks / os.sysconf("SC_CLK_TCK")


watch = LoopWatch()


class CrowdSettings(DexcomSettings):
    """Settings of the provider, which build the crowd in its place."""

    def build_provider(self, http: httpx.AsyncClient, data: DataClient, clock: Clock) -> Provider:
        del http, data
        return CrowdProvider(clock, watch.count_call)


cast("dict[str, Any]", REGISTRY)[PROVIDER] = CrowdSettings

from app import app, workers  # noqa: E402 - it reads the registry

_running = workers.running


@asynccontextmanager
async def _run_and_watch(services: Services) -> AsyncIterator[None]:
    watch.start(services.demand)
    async with _running(replace(services, poller=cast("Poller", TimedPoller(services.poller)))):
        yield


workers.running = _run_and_watch  # type: ignore[method-assign]
__all__ = ["app"]
