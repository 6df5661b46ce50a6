"""One process with many connections: memory, start, pauses of the loop, processor and lag by number of users.

Run ``python -m tests.long.benchmarks.scale`` (``make bench-scale``); about five minutes for each size. The provider
answers at once and its tokens do not expire, so that only the service is measured: SQLite in a file, the whole web
application under granian, every poll with the readings since the last one and three hours of overlap.
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
from bg_ingest.domain.call_budget import ProviderLimit, slowdown
from bg_ingest.ports import Priority
from bg_ingest.services.budget.waiting import CallsPerPoll
from tests.integration.processes import free_port
from tests.long.benchmarks.crowd import APP, INTERVAL, KEY, fill_store
from tests.long.benchmarks.crowd_metrics import CrowdMetrics, read_metrics
from tests.long.chaos.processes import Process, TimedOut, run_folder, service_settings, wait_until
from tests.long.chaos.report import Report, console

SIZES = (10_000, 25_000, 50_000, 75_000, 100_000)
CALLS_PER_HOUR = 72_000
"""Limit that leaves 16.7 polls a second of 93 %, after the calls expected for sweeps and refreshes."""

WRITE_SECONDS_EACH = 0.001
"""Most seconds to write one user."""

START_SECONDS = 60.0
"""Seconds between the start and the first due poll, so that no poll is overdue."""

MAX_MEMORY_MB, MAX_SCHEDULED_SECONDS, MAX_PAUSE_SECONDS, MAX_PROCESSOR, MAX_LAG_SECONDS = 400, 20.0, 0.2, 0.5, 1.0
"""Limits for 100,000 connections in MB, seconds, seconds, share of one core, seconds."""

MIN_POLLS_PER_SECOND = 16.0
"""Polls a second at the usual limit. With fewer, the share of the processor would not be significant."""


class ScaleFigures(msgspec.Struct):
    """Figures of one number of users."""

    people: int
    memory_mb: float
    scheduled_s: float
    ready_s: float
    pause_at_start_ms: float
    pause_ms: float
    processor: float
    polls_per_second: float
    lag_p50_s: float
    lag_p99_s: float
    slowdown: float


def measure(people: int, seconds: float, calls_per_hour: int) -> ScaleFigures:
    with run_folder("scale") as folder:
        begin = SystemClock().now() + timedelta(seconds=START_SECONDS + people * WRITE_SECONDS_EACH)
        with console.status(f"writing {people:,} users"):
            fill_store(folder / "data" / "bg-ingest.sqlite", people, begin, expected_slowdown(people, calls_per_hour))
        process, report, settled = (
            crowd_process(folder, people, calls_per_hour),
            folder / "crowd_metrics.jsonl",
            settle_seconds(people),
        )
        with process, console.status(f"{people:,} users: {settled + seconds:.0f} seconds"):
            wait_until(
                lambda: has_reached(process, report, settled + seconds), settled + seconds + 120, "the run", every=1
            )
        return to_figures(people, read_metrics(report))


def settle_seconds(people: int) -> float:
    """Return the seconds until every connection has had its first poll and polls are due at their usual rate."""
    return START_SECONDS + 40 + 1.5 * WRITE_SECONDS_EACH * people


def expected_slowdown(people: int, calls_per_hour: int) -> float:
    """Return the slowdown of a process that has just started."""
    return slowdown(
        CallsPerPoll(ProviderLimit(calls_per_hour)).estimate * people / INTERVAL.total_seconds(),
        ProviderLimit(calls_per_hour),
        Priority.LIVE,
    )


def crowd_process(folder: Path, people: int, calls_per_hour: int) -> Process:
    port = free_port()
    settings = service_settings(folder, port) | {
        "DEXCOM_CLIENT_ID": APP,
        "DEXCOM_CLIENT_SECRET": "secret",
        "TOKEN_ENCRYPTION_KEYS": b64encode(KEY).decode(),
        "PROVIDER_CALLS_PER_HOUR": str(calls_per_hour),
        "LOG_LEVEL": "WARNING",
        "SCALE_REPORT": str(folder / "crowd_metrics.jsonl"),
        "SCALE_PEOPLE": str(people),
    }
    asgi = ("--interface", "asgi", "--host", "127.0.0.1", "--port", str(port))
    return Process(folder, "service", "granian", *asgi, "tests.long.benchmarks.crowd_app:app", port=port, **settings)


def has_reached(process: Process, report: Path, seconds: float) -> bool:
    if not process.alive:
        raise TimedOut(f"the service ended, see {process.said}")
    lines = read_metrics(report)
    return bool(lines) and lines[-1].seconds > seconds


def to_figures(people: int, lines: list[CrowdMetrics]) -> ScaleFigures:
    starting = [each for each in lines if each.seconds <= settle_seconds(people)]
    steady = [each for each in lines if each.seconds > settle_seconds(people)]
    first, last = steady[0], steady[-1]
    lags = [lag for each in steady[1:] for lag in each.lags]
    shares = quantiles(lags, n=100)
    took = last.seconds - first.seconds
    return ScaleFigures(
        people=people,
        memory_mb=max(each.memory for each in lines) / 1e6,
        scheduled_s=last.scheduled_after or float("inf"),
        ready_s=last.ready_after or float("inf"),
        pause_at_start_ms=1000 * max(each.max_pause for each in starting),
        pause_ms=1000 * max(each.max_pause for each in steady),
        processor=(last.processor - first.processor) / took,
        polls_per_second=(last.polls - first.polls) / took,
        lag_p50_s=shares[49],
        lag_p99_s=shares[98],
        slowdown=last.slowdown,
    )


def show(measured: list[ScaleFigures]) -> None:
    table = Table(title="One process by number of users", title_justify="left")
    for name in ScaleFigures.__struct_fields__:
        table.add_column(name.replace("_", " "), justify="right")
    for each in measured:
        table.add_row(f"{each.people:,}", *(f"{value:,.3g}" for value in msgspec.structs.astuple(each)[1:]))
    console.print(table)
    for fewer, more in pairwise(measured):
        tens = (more.people - fewer.people) / 10_000
        memory, scheduled = (more.memory_mb - fewer.memory_mb) / tens, (more.scheduled_s - fewer.scheduled_s) / tens
        console.print(f"from {fewer.people:,} to {more.people:,}, each 10,000 more: {memory:.1f} MB, {scheduled:.2f} s")


def check_limits(most: ScaleFigures, calls: int) -> Report:
    report = Report(f"With {most.people:,} connections")
    report.check(
        "memory, MB", round(most.memory_mb), holds=most.memory_mb <= MAX_MEMORY_MB, expected=f"{MAX_MEMORY_MB}"
    )
    report.check(
        "all scheduled after, s",
        round(most.scheduled_s, 1),
        holds=most.scheduled_s <= MAX_SCHEDULED_SECONDS,
        expected="20",
    )
    longest = max(most.pause_at_start_ms, most.pause_ms)
    report.check("longest pause, ms", round(longest), holds=longest <= 1000 * MAX_PAUSE_SECONDS, expected="200")
    report.check("of a core", round(most.processor, 2), holds=most.processor <= MAX_PROCESSOR, expected="0.5")
    polls, least = round(most.polls_per_second, 1), MIN_POLLS_PER_SECOND * calls / CALLS_PER_HOUR
    report.check("looks per second", polls, holds=polls >= least, expected=f"{least:.1f}")
    report.check("lag p99, s", round(most.lag_p99_s, 2), holds=most.lag_p99_s <= MAX_LAG_SECONDS, expected="1")
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, nargs="*", default=list(SIZES))
    parser.add_argument("--seconds", type=float, default=120, help="seconds of measurement after all have settled")
    parser.add_argument("--calls", type=int, default=CALLS_PER_HOUR, help="the provider's limit per hour")
    parser.add_argument("--json", type=Path, help="file for the figures")
    asked = parser.parse_args()
    measured: list[ScaleFigures] = []
    for people in asked.people:
        measured.append(measure(people, asked.seconds, asked.calls))
        if asked.json:
            asked.json.parent.mkdir(parents=True, exist_ok=True)
            asked.json.write_bytes(msgspec.json.format(msgspec.json.encode(measured)))
    show(measured)
    check_limits(measured[-1], asked.calls).show()


if __name__ == "__main__":
    main()
