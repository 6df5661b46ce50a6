"""Polls per second and their processor time; medians of some runs.

    python -m tests.long.benchmarks.polls [--runs 3] [--json FILE]

Once every user has a new reading, polls of all users are requested at once. A poll calls the provider, commits the new
readings and publishes them. It counts once its event is in the queue. The figures include the poll's request over HTTP.
Provider, store and broker run beside the service on the same machine, so the wall clock's figures include their work.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import anyio
import msgspec
import rich_click as click

from bg_ingest.simulator import SimulatorOptions
from tests.integration.listener import channel_to
from tests.long.benchmarks.processor import seconds_used
from tests.long.benchmarks.results_file import write_results
from tests.long.benchmarks.serving import listens, running, settings_on, shown
from tests.long.chaos.processes import Process, provider_settings, run_folder, simulator, wait_until
from tests.long.chaos.real_parts import QUEUE, RealParts, real_parts
from tests.long.chaos.report import Report, console
from tests.long.chaos.store_dump import PROVIDER
from tests.long.chaos.users import SimulatedUser, connect, make_users

PEOPLE = 200

CALLS_PER_HOUR = 10_000_000
"""Raised limit, because the real one, 60,000 an hour, allows 16 polls a second, which take a sixth of a core."""

OPTIONS = SimulatorOptions(users=PEOPLE, cadence_minutes=1, delay_seconds=0, calls_per_hour=CALLS_PER_HOUR)

POLL_SETTINGS = {
    "POLL_INTERVAL_SECONDS": "60",
    "OVERLAP_SECONDS": "2160",
    "PROVIDER_CALLS_PER_HOUR": str(CALLS_PER_HOUR),
}
"""A reading a minute, so that a run takes a minute. Each poll reads 36 again, the number in three hours of a sensor."""

NEW_AFTER = 65
"""Seconds until every user has a new reading; some sensors have gaps."""

QUIET_SECONDS = 3.0
"""Seconds without an event after which no more events are expected."""

CONCURRENCY = 16


class PollFigures(msgspec.Struct, frozen=True):
    """One run of polls of all users."""

    polls: int
    per_second: float
    processor_ms: float
    busy: float
    """Share of one core used by the worker."""


@click.command()
@click.option("--runs", default=3, show_default=True)
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="File for all figures.")
def main(runs: int, file: Path | None) -> None:
    """Polls per second on ministack, RabbitMQ and the simulated provider."""
    with run_folder("polls") as folder, real_parts(folder) as parts, simulator(folder, OPTIONS) as simulated:
        wait_until(lambda: listens(simulated), 30, "the simulator")
        settings = settings_on(parts) | provider_settings(simulated, OPTIONS) | POLL_SETTINGS
        with running(folder, settings, "bg_ingest.cli", "run") as service:
            people = make_users(PEOPLE)
            _connect_all(service, parts, people)
            found = [_run(service, parts, people) for _ in range(runs)]
    report = Report(f"Polls of {PEOPLE} users with a new reading or two, medians of {runs} runs")
    _add_figures(report, found)
    if file is not None:
        write_results(file, "polls", runs, found)
    report.show()


def _add_figures(report: Report, found: Sequence[PollFigures]) -> None:
    report.figure("polls committed and published/s", shown([each.per_second for each in found]))
    report.figure("processor of the service per poll, ms", shown([each.processor_ms for each in found], "{:.2f}"))
    report.figure("of one core, % busy meanwhile", shown([100 * each.busy for each in found], "{:.0f}"))
    report.figure("polls of a run", shown([each.polls for each in found], "{:.0f}"))


def _connect_all(service: Process, parts: RealParts, people: Sequence[SimulatedUser]) -> None:
    console.print(f"{len(people)} users connect ...")
    for person in people:
        assert connect(service, person), person
    wait_until(lambda: parts.waiting() == 0, 120, "the events of the connects", every=1)


def _run(service: Process, parts: RealParts, people: Sequence[SimulatedUser]) -> PollFigures:
    console.print(f"waiting {NEW_AFTER} s for new readings ...")
    time.sleep(NEW_AFTER)
    return anyio.run(_poll, service, parts, people)


async def _poll(service: Process, parts: RealParts, people: Sequence[SimulatedUser]) -> PollFigures:
    async with channel_to(parts.url) as channel:

        async def poll_count() -> int:
            return (await channel.queue_declare(QUEUE, passive=True)).message_count or 0

        before, used, began = await poll_count(), seconds_used(service.worker), time.monotonic()
        last, last_at = before, began
        async with anyio.create_task_group() as group:
            group.start_soon(_request_polls, service.url, people)
            while time.monotonic() - last_at < QUIET_SECONDS or last == before:
                await anyio.sleep(0.02)
                if (now := await poll_count()) > last:
                    last, last_at = now, time.monotonic()
        used = seconds_used(service.worker) - used
    polls, seconds = last - before, last_at - began
    return PollFigures(polls, polls / seconds, 1000 * used / polls, used / seconds)


async def _request_polls(url: str, people: Sequence[SimulatedUser]) -> None:
    """Request a poll of every user."""
    left = iter(people)

    async def ask_some() -> None:
        for person in left:
            async with client.post(f"/api/users/{person.user}/connections/{PROVIDER}/poll") as answer:
                assert answer.status == 202, await answer.text()

    async with aiohttp.ClientSession(url) as client, anyio.create_task_group() as group:
        for _ in range(CONCURRENCY):
            group.start_soon(ask_some)


if __name__ == "__main__":
    main()
