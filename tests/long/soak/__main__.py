"""Month of fifty users under random faults, weekly uploads and restarts; exit code 1 on any difference.

    python -m tests.long.soak [--seed 1] [--people 50] [--days 30] [--interval 900]

In virtual time. The same seed is the same month.
"""

import asyncio  # noqa: TID251 - the virtual clock is a loop of asyncio
import logging
import sys
import time
from datetime import timedelta
from typing import get_args

import anyio
import msgspec
import rich_click as click
import structlog

from bg_ingest.domain.connections import PollDefaults
from bg_ingest.simulator.faults import Fault
from tests.conftest import VirtualTimeLoop
from tests.long.chaos.report import Report, console
from tests.long.soak.life import Figures, run_life

LATEST = timedelta(days=7)
"""Delays of late readings and revisions; sweeps of 30 days find them in any case."""

CALM = LATEST + timedelta(days=7, hours=3)
"""Time until the last of them has arrived and a weekly sweep has followed."""


@click.command()
@click.option("--seed", type=int, help="Selects the month; drawn and printed if omitted.")
@click.option("--people", default=50, show_default=True)
@click.option("--days", default=30, show_default=True)
@click.option("--interval", default=900, show_default=True, help="Seconds between two polls.")
def main(seed: int | None, people: int, days: int, interval: int) -> None:
    """Run a month under faults, then compare all data with the provider."""
    seed = seed if seed is not None else time.time_ns() % 100_000
    console.print(f"seed {seed}: {people} users, {days} days and {CALM.days} of calm, a poll every {interval} s")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    began = time.monotonic()

    async def log_days() -> None:
        for day in range(1, days + CALM.days + 1):
            await anyio.sleep(86_400)
            sys.stderr.write(f"\rday {day} of {days + CALM.days} ")

    async def live() -> Figures:
        defaults = PollDefaults(timedelta(seconds=interval), backfill_days=7)
        troubled = timedelta(days=days)
        async with anyio.create_task_group() as group:
            group.start_soon(log_days)
            async with run_life(
                seed=seed, people=people, troubled=troubled, calm=CALM, latest=LATEST, defaults=defaults
            ) as figures:
                group.cancel_scope.cancel()
        return figures

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        figures = runner.run(live())
    report = Report(f"Soak: {people} users, {days} days, seed {seed}")
    for name, value in msgspec.structs.asdict(figures).items():
        report.figure(name.replace("_", " "), value)
    report.figure("real seconds", round(time.monotonic() - began))
    kinds = {str(each.__struct_config__.tag) for each in get_args(Fault)}
    unmet = sorted(kinds - figures.met.keys())
    report.check("kinds of faults without an effect", ", ".join(unmet) or "none", holds=not unmet, expected="none")
    report.check("differences", figures.differences, holds=figures.differences == 0, expected="none")
    strangers = figures.not_the_simulators + figures.not_known
    report.check("gaps that are false or missing", strangers, holds=strangers == 0, expected="none")
    report.check("readings compared", figures.compared, holds=figures.compared > people * days * 200, expected="most")
    report.show()


if __name__ == "__main__":
    main()
