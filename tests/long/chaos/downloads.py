"""Download ten years of a one-minute sensor as Parquet and Arrow, and measure memory and the requests of others.

    python -m tests.long.chaos.downloads [--years 10]

`latest` is requested 20 times a second, first alone, then beside each download and beside statistics of 366 days. Exit
code 1 if a 99th percentile rises by more than 25 ms, or the memory by more than the limit of the form.
"""

import json
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from statistics import median, quantiles
from typing import NamedTuple

import rich_click as click

from bg_ingest.adapters.clock import SystemClock
from tests.harness.web import web
from tests.long.chaos.memory import USER, MemoryWatch, path_of
from tests.long.chaos.processes import Process, memory, run_folder, service
from tests.long.chaos.report import Report, console
from tests.long.chaos.seed_history import write_history

INTERVAL_SECONDS = 0.05
QUIET_SECONDS = 20.0
STATISTICS_DAYS, STATISTICS_COUNT = 366, 3
MAX_RISE_MS = 25.0

PARQUET, ARROW = "application/vnd.apache.parquet", "application/vnd.apache.arrow.stream"


class Task(NamedTuple):
    """Work of another caller. It returns the number of bytes of its answers."""

    name: str
    max_memory_mb: float
    run: Callable[[], int]


def measure_latest(served: Process, is_over: Callable[[float], bool]) -> list[float]:
    """Request `latest` at a steady rate until it is over; return milliseconds from the due time to the answer."""
    took: list[float] = []
    began = time.monotonic()
    while not is_over(time.monotonic() - began):
        due = began + len(took) * INTERVAL_SECONDS
        time.sleep(max(0.0, due - time.monotonic()))
        web.get(f"{served.url}/api/bg/{USER}/latest").raise_for_status()
        took.append((time.monotonic() - due) * 1e3)
    return took


def percentile(milliseconds: list[float]) -> float:
    return quantiles(milliseconds, n=100)[98]


def read(served: Process, method: str, path: str, media_type: str, body: bytes | None = None) -> int:
    """Take a whole answer without keeping it; return its bytes."""
    headers = {"accept": media_type, "content-type": "application/json"}
    with web.stream(method, served.url + path, headers=headers, content=body, timeout=300) as answer:
        answer.raise_for_status()
        return sum(map(len, answer.iter_raw()))


def tasks_of(served: Process, years: int) -> list[Task]:
    now = SystemClock().now()
    day = now - timedelta(days=STATISTICS_DAYS)
    statistics = f"/api/bg/{USER}/statistics?from={day:%Y-%m-%dT%H:%M:%SZ}&to={now:%Y-%m-%dT%H:%M:%SZ}"
    body = json.dumps({"users": [USER], "from": f"{now - timedelta(days=366 * years):%Y-%m-%d}"}).encode()
    return [
        Task("dataset as Parquet", 24.0, lambda: read(served, "POST", "/api/dataset", PARQUET, body)),
        Task("range as Parquet", 24.0, lambda: read(served, "GET", path_of(years, "full"), PARQUET)),
        Task("range as Arrow", 24.0, lambda: read(served, "GET", path_of(years, "full"), ARROW)),
        Task(
            f"{STATISTICS_COUNT} times statistics of {STATISTICS_DAYS} days",
            20.0,
            lambda: sum(read(served, "GET", statistics, "application/json") for _ in range(STATISTICS_COUNT)),
        ),
    ]


def check(report: Report, served: Process, quiet_ms: float, task: Task) -> None:
    console.print(task.name)
    watched, began = MemoryWatch(served.worker), time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        answer: Future[int] = pool.submit(task.run)
        took = measure_latest(served, lambda _: answer.done())
    seconds, growth = time.monotonic() - began, round(watched.growth / 1e6, 1)
    report.figure(f"{task.name}: MB; s", f"{answer.result() / 1e6:.1f}; {seconds:.1f}")
    limit = task.max_memory_mb
    report.check(f"{task.name}: MB of memory", growth, holds=growth <= limit, expected=f"{limit:g} at most")
    slow, bound = percentile(took), quiet_ms + MAX_RISE_MS
    text = f"{median(took):.1f}; {slow:.1f}; {max(took):.1f}"
    name = f"{task.name}: latest, ms: median; 99 %; slowest"
    report.check(name, text, holds=slow <= bound, expected=f"99 % within {bound:.1f}")


@click.command()
@click.option("--years", default=10, show_default=True)
def main(years: int) -> None:
    """Measure large downloads and the requests beside them."""
    report = Report(f"Downloads of {years} years of a one-minute sensor")
    with run_folder("downloads") as folder:
        console.print("writing the history ...")
        report.figure("readings", write_history(folder / "data", USER, years=years, cadence=timedelta(minutes=1)))
        with service(folder, REQUESTS_PER_SECOND="10000") as served:
            served.get_ready()
            for task in tasks_of(served, 1):  # imports arro3, and takes what every process takes with its first answers
                task.run()
            report.figure("MB before", round(memory(served.worker)["VmRSS"] / 1e6, 1))
            quiet = measure_latest(served, lambda seconds: seconds > QUIET_SECONDS)
            report.figure("latest alone, ms: median; 99 %", f"{median(quiet):.1f}; {percentile(quiet):.1f}")
            for task in tasks_of(served, years):
                check(report, served, percentile(quiet), task)
        report.show()


if __name__ == "__main__":
    main()
