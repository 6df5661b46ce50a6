"""Processor time of reads of the present and of a webhook after ten years, compared with that after a week.

    python -m tests.long.benchmarks.growth [--runs 5]

One process on SQLite with two connected users, whose readings of every five minutes are in the store. Their requests
alternate. ``tests/stories/test_growth.py`` counts the calls and items of the same operations. Exit code 1 beyond the
limit.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import median

import anyio
import rich_click as click

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.adapters.sqlite import open_table
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.ports.table import Put
from bg_ingest.simulator import SimulatorOptions
from bg_ingest.simulator.data import user_id
from bg_ingest.store import LAYOUT, keys
from tests.harness.old_history import TEN_YEARS, WEEK, add_history
from tests.harness.webhook_sender import SECRET
from tests.long.benchmarks.load import run_load
from tests.long.benchmarks.processor import seconds_used
from tests.long.benchmarks.senders import RequestMaker, send
from tests.long.chaos.processes import Process, answers, provider_settings, run_folder, service, simulator, wait_until
from tests.long.chaos.report import Report, console
from tests.long.chaos.store_dump import FILE, PROVIDER
from tests.long.chaos.users import SimulatedUser, connect, make_users

OPTIONS = SimulatorOptions(users=2)
HISTORIES = (WEEK, TEN_YEARS)
SETTINGS = {
    "BACKFILL_DAYS": "0",
    "POLL_INTERVAL_SECONDS": "3600",
    "REQUESTS_PER_SECOND": "100000",
    "WEBHOOKS_PER_SECOND": "100000",
    "WEBHOOK_SIGNING_SECRETS": SECRET,
}
COUNTS = {"latest": 2_000, "range of a day": 800, "gaps of a day": 1_000}
WEBHOOKS = 150
AT_ONCE = 4
PUSHED_DAYS = 5
"""Time before now that is left to the webhooks."""

MAX_RATIO = 1.1


class Requests:
    """Requests of one user."""

    def __init__(self, served: Process, person: SimulatedUser, end: datetime) -> None:
        self._served = served
        account = user_id(OPTIONS.seed, OPTIONS.client_id, person.login)
        self._webhooks = RequestMaker({person: account}, end + timedelta(hours=6))
        path = f"/api/bg/{person.user}"
        window = f"from={end - timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}&to={end:%Y-%m-%dT%H:%M:%SZ}"
        self.paths = {
            "latest": f"{path}/latest",
            "range of a day": f"{path}?{window}",
            "gaps of a day": f"{path}/gaps?{window}",
        }

    def read(self, name: str) -> float:
        """Return the processor milliseconds of a read."""
        load = partial(run_load, count=COUNTS[name], at_once=AT_ONCE, pid=self._served.worker)
        return anyio.run(load, self._served.url, [self.paths[name]]).cpu_ms

    def push(self) -> float:
        """Return the processor milliseconds of a webhook."""
        made = self._webhooks.make(WEBHOOKS)
        used = seconds_used(self._served.worker)
        anyio.run(send, self._served, made)
        return (seconds_used(self._served.worker) - used) * 1e3 / WEBHOOKS


async def write_histories(data: Path, users: list[SimulatedUser], end: datetime) -> None:
    async with open_table(data / FILE, SystemClock()) as table:
        await table.write(Put(keys.META, LAYOUT))
        for person, length in zip(users, HISTORIES, strict=True):
            await add_history(table, ConnectionId(UserId(person.user), PROVIDER), end, length)


def compare(report: Report, name: str, runs: int, week: Callable[[], float], ten_years: Callable[[], float]) -> None:
    """Run an operation of both users in turn, once for each to warm up, and compare the medians."""
    week(), ten_years()
    pairs = [(week(), ten_years()) for _ in range(runs)]
    young, old = (median(figures) for figures in zip(*pairs, strict=True))
    report.figure(f"{name}, ms of CPU: after a week; ten years", f"{young:.3f}; {old:.3f}")
    ratio = round(old / young, 3)
    report.check(f"{name}: ratio", ratio, holds=ratio <= MAX_RATIO, expected=f"{MAX_RATIO:g} at most")


@click.command()
@click.option("--runs", default=5, show_default=True)
def main(runs: int) -> None:
    """Compare the cost of operations after ten years with that after a week."""
    report = Report(f"Growth, medians of {runs} runs")
    end = (SystemClock().now() - timedelta(days=PUSHED_DAYS)).replace(hour=0, minute=0, second=0, microsecond=0)
    users = make_users(len(HISTORIES))
    with run_folder("growth") as folder, simulator(folder, OPTIONS) as simulated:
        wait_until(lambda: answers(simulated, "/admin/state"), 30, "the simulator")
        console.print("ten years of readings are written ...")
        (folder / "data").mkdir(parents=True)
        anyio.run(write_histories, folder / "data", users, end)
        with service(folder, **SETTINGS, **provider_settings(simulated, OPTIONS)) as served:
            served.get_ready()
            for person in users:
                assert connect(served, person), person
            week, ten_years = (Requests(served, person, end) for person in users)
            compare(report, "webhook", runs, week.push, ten_years.push)
            for name in COUNTS:
                compare(report, name, runs, partial(week.read, name), partial(ten_years.read, name))
        report.show()


if __name__ == "__main__":
    main()
