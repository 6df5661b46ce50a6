"""One process with many connections: memory, start, pauses of the loop, processor and lag, as the crowd grows.

Run ``python -m tests.benchmarks.scale`` (``make bench-scale``); about five minutes for each size. The provider answers
at once and its tokens last, so that what is measured is ours: SQLite in a file, the whole web application under
granian, every poll bringing what was measured since the last one and three hours of overlap.
"""

import argparse
from base64 import b64encode
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from statistics import quantiles

import msgspec
from rich.table import Table

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.domain.budget import Limit, stretch
from bg_ingest.ports import Priority
from bg_ingest.services.mix import Mix
from tests.benchmarks.crowd import APP, INTERVAL, KEY, fill
from tests.benchmarks.fared import Fared, told
from tests.chaos.processes import Process, WaitedInVain, service_settings, until, workplace
from tests.chaos.report import Report, console
from tests.integration.processes import free_port

SIZES = (10_000, 25_000, 50_000, 75_000, 100_000)
CALLS_PER_HOUR = 72_000
"""So that 16.7 looks a second are left of 93 %, after those that are expected to go to sweeps and refreshes."""

WRITING = 0.001
"""Seconds to write one of them, at most."""

SLACK = 60.0
"""Seconds between the start and the first look that is due, so that none is overdue."""

MOST_MEMORY, SEATED_WITHIN, LONGEST_PAUSE, MOST_PROCESSOR, LAG = 400, 20.0, 0.2, 0.5, 1.0
"""MB, seconds, seconds, of one core, seconds: what 100,000 connections may cost."""

LEAST_LOOKS = 16.0
"""A second, at the usual limit: with fewer the processor's part would say too little."""


class Measured(msgspec.Struct):
    """One size's figures."""

    people: int
    memory_mb: float
    seated_s: float
    ready_s: float
    pause_at_start_ms: float
    pause_ms: float
    processor: float
    looks_per_second: float
    lag_p50_s: float
    lag_p99_s: float
    stretch: float


def measure(people: int, seconds: float, calls_per_hour: int) -> Measured:
    with workplace("scale") as place:
        begin = SystemClock().now() + timedelta(seconds=SLACK + people * WRITING)
        with console.status(f"writing {people:,} people"):
            fill(place / "data" / "bg-ingest.sqlite", people, begin, stretched(people, calls_per_hour))
        process, report, settled = crowded(place, people, calls_per_hour), place / "fared.jsonl", settles(people)
        with process, console.status(f"{people:,} people: {settled + seconds:.0f} seconds"):
            until(lambda: reached(process, report, settled + seconds), settled + seconds + 120, "the run", every=1)
        return figures(people, told(report))


def settles(people: int) -> float:
    """Return after how many seconds every connection has had its first turn, and looks are due as ever."""
    return SLACK + 40 + 1.5 * WRITING * people


def stretched(people: int, calls_per_hour: int) -> float:
    """Return by what a process stretches that has just begun."""
    return stretch(
        Mix(Limit(calls_per_hour)).calls_per_look * people / INTERVAL.total_seconds(),
        Limit(calls_per_hour),
        Priority.LIVE,
    )


def crowded(place: Path, people: int, calls_per_hour: int) -> Process:
    port = free_port()
    settings = service_settings(place, port) | {
        "DEXCOM_CLIENT_ID": APP,
        "DEXCOM_CLIENT_SECRET": "secret",
        "TOKEN_ENCRYPTION_KEYS": b64encode(KEY).decode(),
        "PROVIDER_CALLS_PER_HOUR": str(calls_per_hour),
        "LOG_LEVEL": "WARNING",
        "SCALE_REPORT": str(place / "fared.jsonl"),
        "SCALE_PEOPLE": str(people),
    }
    asgi = ("--interface", "asgi", "--host", "127.0.0.1", "--port", str(port))
    return Process(place, "service", "granian", *asgi, "tests.benchmarks.crowded:app", port=port, **settings)


def reached(process: Process, report: Path, seconds: float) -> bool:
    if not process.alive:
        raise WaitedInVain(f"the service ended, see {process.said}")
    lines = told(report)
    return bool(lines) and lines[-1].seconds > seconds


def figures(people: int, lines: list[Fared]) -> Measured:
    starting = [each for each in lines if each.seconds <= settles(people)]
    steady = [each for each in lines if each.seconds > settles(people)]
    first, last = steady[0], steady[-1]
    lags = [lag for each in steady[1:] for lag in each.lags]
    shares = quantiles(lags, n=100)
    took = last.seconds - first.seconds
    return Measured(
        people=people,
        memory_mb=max(each.memory for each in lines) / 1e6,
        seated_s=last.seated_after or float("inf"),
        ready_s=last.ready_after or float("inf"),
        pause_at_start_ms=1000 * max(each.longest_pause for each in starting),
        pause_ms=1000 * max(each.longest_pause for each in steady),
        processor=(last.processor - first.processor) / took,
        looks_per_second=(last.looks - first.looks) / took,
        lag_p50_s=shares[49],
        lag_p99_s=shares[98],
        stretch=last.stretch,
    )


def show(measured: list[Measured]) -> None:
    table = Table(title="One process, as the crowd grows", title_justify="left")
    for name in Measured.__struct_fields__:
        table.add_column(name.replace("_", " "), justify="right")
    for each in measured:
        table.add_row(f"{each.people:,}", *(f"{value:,.3g}" for value in msgspec.structs.astuple(each)[1:]))
    console.print(table)
    for fewer, more in pairwise(measured):
        tens = (more.people - fewer.people) / 10_000
        memory, seated = (more.memory_mb - fewer.memory_mb) / tens, (more.seated_s - fewer.seated_s) / tens
        console.print(
            f"from {fewer.people:,} to {more.people:,}, each 10,000 more: {memory:.1f} MB, {seated:.2f} s to be seated"
        )


def judge(most: Measured, calls: int) -> Report:
    report = Report(f"With {most.people:,} connections")
    report.check("memory, MB", round(most.memory_mb), holds=most.memory_mb <= MOST_MEMORY, wanted=f"{MOST_MEMORY}")
    report.check("all seated after, s", round(most.seated_s, 1), holds=most.seated_s <= SEATED_WITHIN, wanted="20")
    longest = max(most.pause_at_start_ms, most.pause_ms)
    report.check("longest pause, ms", round(longest), holds=longest <= 1000 * LONGEST_PAUSE, wanted="200")
    report.check("of a core", round(most.processor, 2), holds=most.processor <= MOST_PROCESSOR, wanted="0.5")
    looks, least = round(most.looks_per_second, 1), LEAST_LOOKS * calls / CALLS_PER_HOUR
    report.check("looks per second", looks, holds=looks >= least, wanted=f"{least:.1f}")
    report.check("lag p99, s", round(most.lag_p99_s, 2), holds=most.lag_p99_s <= LAG, wanted="1")
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, nargs="*", default=list(SIZES))
    parser.add_argument("--seconds", type=float, default=120, help="how long to look after all have settled")
    parser.add_argument("--calls", type=int, default=CALLS_PER_HOUR, help="the provider's limit per hour")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    asked = parser.parse_args()
    measured: list[Measured] = []
    for people in asked.people:
        measured.append(measure(people, asked.seconds, asked.calls))
        if asked.json:
            asked.json.parent.mkdir(parents=True, exist_ok=True)
            asked.json.write_bytes(msgspec.json.format(msgspec.json.encode(measured)))
    show(measured)
    judge(measured[-1], asked.calls).show()


if __name__ == "__main__":
    main()
