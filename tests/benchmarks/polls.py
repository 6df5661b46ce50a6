"""How many polls a second, and what processor time they take; medians of some runs.

    python -m tests.benchmarks.polls [--runs 3] [--json FILE]

The service is stopped until everybody has a new reading and started again: then all polls are due at once. Each asks
the provider, commits what is new and tells it; it counts once its event is in the queue. Provider, store and broker are
beside the service on the same machine, so the wall clock's figures are theirs too.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import anyio
import msgspec
import rich_click as click

from bg_ingest.simulator import SimulatorOptions
from tests.benchmarks.kept import keep
from tests.benchmarks.processor import seconds_used
from tests.benchmarks.serving import listens, running, settings_on, shown
from tests.chaos.people import Person, connect, crowd
from tests.chaos.processes import pointing_at, simulator, until, workplace
from tests.chaos.real_parts import QUEUE, RealParts, real_parts
from tests.chaos.report import Report, console
from tests.integration.listener import channel_to

PEOPLE = 200
OPTIONS = SimulatorOptions(users=PEOPLE, cadence_minutes=1, delay_seconds=0)

NEW_AFTER = 65
"""Seconds until everybody has a new reading."""


class Polled(msgspec.Struct, frozen=True):
    """One run of everybody's polls."""

    polls: int
    per_second: float
    processor_ms: float
    busy: float
    """Of one core, by the worker."""


@click.command()
@click.option("--runs", default=3, show_default=True)
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write all figures there.")
def main(runs: int, file: Path | None) -> None:
    """Polls per second on ministack, RabbitMQ and the simulated provider."""
    with workplace("polls") as place, real_parts(place) as parts, simulator(place, OPTIONS) as simulated:
        until(lambda: listens(simulated), 30, "the simulator")
        settings = settings_on(parts) | pointing_at(simulated, OPTIONS) | {"POLL_INTERVAL_SECONDS": "60"}
        _connect_all(place, parts, settings, crowd(PEOPLE))
        found = [_run(place, parts, settings) for _ in range(runs)]
    report = Report(f"Polls of {PEOPLE} people who have a new reading or two, medians of {runs} runs")
    _tell(report, found)
    if file is not None:
        keep(file, "polls", runs, found)
    report.show()


def _tell(report: Report, found: Sequence[Polled]) -> None:
    report.figure("polls committed and told/s", shown([each.per_second for each in found]))
    report.figure("processor of the service per poll, ms", shown([each.processor_ms for each in found], "{:.2f}"))
    report.figure("of one core, % busy meanwhile", shown([100 * each.busy for each in found], "{:.0f}"))
    report.figure("polls of a run", shown([each.polls for each in found], "{:.0f}"))


def _connect_all(place: Path, parts: RealParts, settings: dict[str, str], people: Sequence[Person]) -> None:
    console.print(f"{len(people)} people connect ...")
    with running(place, settings, "bg_ingest.cli", "run") as service:
        for person in people:
            assert connect(service, person), person
        until(lambda: parts.waiting() == 0, 120, "the connects to be told", every=1)
        service.stop()


def _run(place: Path, parts: RealParts, settings: dict[str, str]) -> Polled:
    console.print(f"waiting {NEW_AFTER} s for new readings ...")
    time.sleep(NEW_AFTER)
    last = _told(parts) + PEOPLE
    with running(place, settings, "bg_ingest.cli", "run") as service:
        missing, used, began = last - _told(parts), seconds_used(service.worker), time.monotonic()
        until(lambda: _told(parts) >= last, 120, "everybody's new readings to be told", every=0.02)
        seconds, used = time.monotonic() - began, seconds_used(service.worker) - used
        service.stop()
    return Polled(missing, missing / seconds, 1000 * used / missing, used / seconds)


def _told(parts: RealParts) -> int:
    async def count() -> int:
        async with channel_to(parts.url) as channel:
            return (await channel.queue_declare(QUEUE, passive=True)).message_count or 0

    return anyio.run(count)


if __name__ == "__main__":
    main()
