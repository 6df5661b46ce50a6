"""Requests at a fixed concurrency, their wall-clock time, and the processor time of the serving process."""

import time
from collections.abc import Sequence
from itertools import cycle, islice
from statistics import median, quantiles

import aiohttp
import anyio
import msgspec

from tests.long.benchmarks.processor import seconds_used


class LoadResult(msgspec.Struct, frozen=True):
    """One run of a kind of request, or the medians of some runs."""

    per_second: float
    p50_ms: float
    p99_ms: float
    per_cpu_second: float
    """Requests per second of processor time of the serving process."""

    @property
    def cpu_ms(self) -> float:
        return 1000 / self.per_cpu_second


async def run_load(url: str, paths: Sequence[str], *, count: int, at_once: int, pid: int) -> LoadResult:
    """Request the paths cyclically, a number of times in all. Raise AssertionError at any status but 200."""
    taken: list[float] = []
    left = islice(cycle(paths), count)
    async with aiohttp.ClientSession(url) as client:

        async def ask_on() -> None:
            for path in left:
                began = time.perf_counter()
                async with client.get(path) as answer:
                    await answer.read()
                    assert answer.status == 200, answer.status
                taken.append(time.perf_counter() - began)

        began, used = time.perf_counter(), seconds_used(pid)
        async with anyio.create_task_group() as group:
            for _ in range(at_once):
                group.start_soon(ask_on)
        seconds, used = time.perf_counter() - began, seconds_used(pid) - used
    return LoadResult(
        count / seconds, 1000 * median(taken), 1000 * quantiles(taken, n=100, method="inclusive")[98], count / used
    )


def medians(runs: Sequence[LoadResult]) -> LoadResult:
    """Return the median of each figure."""
    return LoadResult(*(median(column) for column in zip(*map(msgspec.structs.astuple, runs), strict=True)))
