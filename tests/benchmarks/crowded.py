"""The service as it is, with a crowd for a provider, writing down each second how it fares: ``crowded:app``."""

import asyncio  # noqa: TID251 - the loop itself is what is looked at
import os
import resource
import time
from collections import Counter
from contextvars import ContextVar
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import msgspec

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.turns import Plan, Turn
from bg_ingest.ports import Turns
from bg_ingest.providers import REGISTRY
from tests.benchmarks.crowd import PROVIDER, Crowd
from tests.benchmarks.fared import Fared

REPORT, PEOPLE = (os.environ[name] for name in ("SCALE_REPORT", "SCALE_PEOPLE"))  # noqa: TID251 - no settings of the service
PAGE = os.sysconf("SC_PAGE_SIZE")
GLANCE = 0.005
"""Seconds between two looks at whether the loop is on time."""

DUE: ContextVar[datetime | None] = ContextVar("DUE", default=None)


class Watch:
    """Looks at the loop, and writes what it saw."""

    def __init__(self) -> None:
        self._began = _began()
        self._clock = SystemClock()
        self._report = Path(REPORT).open("ab")  # noqa: SIM115 - to the end of the process
        self.lags: list[float] = []
        self.endings: Counter[str] = Counter()
        self._looks = 0
        self._pause = 0.0
        self._seated_after: float | None = None
        self._ready_after: float | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._mind()), asyncio.create_task(self._tell())]

    def asked(self) -> None:
        due = DUE.get()
        if due is not None:
            self._looks += 1
            self.lags.append((self._clock.now() - due).total_seconds())

    async def _mind(self) -> None:
        before = time.monotonic()
        while True:
            await asyncio.sleep(GLANCE)
            now = time.monotonic()
            self._pause = max(self._pause, now - before - GLANCE)
            before = now

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(1)
            self._report.write(msgspec.json.encode(self._fared()) + b"\n")
            self._report.flush()

    def _fared(self) -> Fared:
        seconds, seated = self._clock.now().timestamp() - self._began, workers.polled()
        if seated == int(PEOPLE) and self._seated_after is None:
            self._seated_after = seconds
        if self._ready_after is None and not workers.unready():
            self._ready_after = seconds
        used = resource.getrusage(resource.RUSAGE_SELF)
        fared = Fared(
            seconds=seconds,
            seated=seated,
            seated_after=self._seated_after,
            ready_after=self._ready_after,
            looks=self._looks,
            lags=self.lags,
            endings=self.endings,
            longest_pause=self._pause,
            processor=used.ru_utime + used.ru_stime,
            memory=int(Path("/proc/self/statm").read_text().split()[1]) * PAGE,
            stretch=max((each.stretch for each in services.demands.states()), default=1.0),
        )
        self.lags, self._pause = [], 0.0
        return fared


class Watched:
    """Turns whose due times are known where the provider is asked."""

    def __init__(self, inner: Turns) -> None:
        self._inner = inner

    async def turn(self, connection_id: ConnectionId, epoch: int, plan: Plan, *, asked: bool = False) -> Turn:
        look_at = plan.look_at
        DUE.set(look_at if look_at and look_at <= watch._clock.now() else None)
        turn = await self._inner.turn(connection_id, epoch, plan, asked=asked)
        watch.endings[f"{turn.origin or 'nothing'}: {turn.outcome.ending}"] += 1
        return turn


def _began() -> float:
    """Return when this process was started, in epoch seconds."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    booted = next(int(line.split()[1]) for line in Path("/proc/stat").read_text().splitlines() if "btime" in line)
    return booted + ticks / os.sysconf("SC_CLK_TCK")


watch = Watch()
cast("dict[str, Any]", REGISTRY)[PROVIDER] = lambda _options, _http, clock: Crowd(clock, watch.asked)

from app import app, services, workers  # noqa: E402 - it reads the registry

_join = services.join


def _joined(*args: Any, **kwargs: Any) -> None:
    _join(*args, **kwargs)
    services.turns = Watched(services.turns)
    watch.start()


services.join = _joined  # type: ignore[method-assign]
__all__ = ["app"]
