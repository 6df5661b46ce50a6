"""Webhooks and events per second and their processor time; medians of some runs.

    python -m tests.long.benchmarks.throughput [--runs 3] [--json FILE]

The service is ``bg-ingest run``; ministack, RabbitMQ and the senders run beside it on the same machine, so the wall
clock's figures include their work. The processor time is the service's own.
"""

import os
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from statistics import median, quantiles

import anyio
import msgspec
import rich_click as click

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.adapters.rabbitmq.publisher import RabbitPublisher
from bg_ingest.adapters.rabbitmq.topology import EventQueue
from bg_ingest.domain.changes import Change, ReadingsRecorded
from bg_ingest.domain.cloud_events import encode_cloud_event
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.readings import Origin, StoredReading
from bg_ingest.simulator import SimulatorOptions
from bg_ingest.wiring import SOURCE
from tests.harness.sample_values import reading
from tests.harness.web import web
from tests.integration.listener import channel_to
from tests.long.benchmarks.processor import seconds_used
from tests.long.benchmarks.results_file import write_results
from tests.long.benchmarks.senders import RequestMaker, send
from tests.long.benchmarks.serving import listens, running, settings_on, shown
from tests.long.chaos.processes import Process, provider_settings, run_folder, simulator, wait_until
from tests.long.chaos.real_parts import QUEUE, RealParts, real_parts
from tests.long.chaos.report import Report
from tests.long.chaos.users import connect, make_users

USERS, WEBHOOKS_EACH = 32, 50
"""Concurrent webhooks, and the number of webhooks sent one after the other by each user."""

EVENTS, IN_FLIGHT = 10_000, 32
"""Events in the run of the publisher alone."""

CALM_COUNT, CALM_PAUSE_SECONDS = 100, 0.1
"""Webhooks one at a time, and seconds between them: latency without a queue before it."""


class PushFigures(msgspec.Struct, frozen=True):
    """One run of webhooks."""

    per_second: float
    answered_ms: float
    processor_ms: float
    busy: float
    """Share of one core used by the worker."""
    events_per_second: float
    """Seconds from the first webhook sent until the last event was in the queue."""
    behind: float
    """Seconds between the last 202 and the last event in the queue."""


class PublishFigures(msgspec.Struct, frozen=True):
    """One run of the publisher alone."""

    per_second: float
    processor_ms: float
    size: int


@click.command()
@click.option("--runs", default=3, show_default=True)
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="File for all figures.")
def main(runs: int, file: Path | None) -> None:
    """Webhooks and events per second on ministack and RabbitMQ."""
    report = Report(f"Webhooks of one reading, medians of {runs} runs")
    options = SimulatorOptions(users=USERS)
    with run_folder("throughput") as folder, real_parts(folder) as parts, simulator(folder, options) as simulated:
        wait_until(lambda: listens(simulated), 30, "the simulator")
        published = [anyio.run(_publish, parts.node.vhost(f"alone-{run}")) for run in range(runs)]
        _add_publish_figures(report, published)
        settings = settings_on(parts) | provider_settings(simulated, options)
        with running(folder, settings, "bg_ingest.cli", "run") as service:
            senders = _connect_users(service, parts)
            found = [anyio.run(push_all, service, parts.url, senders) for _ in range(runs)]
            _add_push_figures(report, found)
            service.stop()
        waited = folder / "waited"
        with running(folder, settings, "tests.long.benchmarks.confirm_delay", str(waited)) as service:
            calm = [_latencies(waited, lambda: _push_calmly(service, senders)) for _ in range(runs)]
            full = [_latencies(waited, lambda: anyio.run(push_all, service, parts.url, senders)) for _ in range(runs)]
        for name, each in (("one at a time", calm), (f"{USERS} at once", full)):
            report.figure(f"recorded to confirmed, {name}: median ms", shown([median(one) for one in each]))
            within = [quantiles(one, n=20)[18] for one in each]
            report.figure(f"recorded to confirmed, {name}: 95 % within ms", shown(within))
        if file is not None:
            confirmed_after_ms = {"one at a time": calm, f"{USERS} at once": full}
            figures = {"published": published, "webhooks": found, "confirmed_after_ms": confirmed_after_ms}
            write_results(file, "throughput", runs, figures)
        report.show()


def _add_publish_figures(report: Report, found: Sequence[PublishFigures]) -> None:
    report.figure("load of the last minute on so many cores", f"{os.getloadavg()[0]:.1f} on {os.cpu_count()}")
    name = f"publisher alone, {IN_FLIGHT} in flight, events of {found[0].size:,} bytes"
    report.figure(f"{name}: confirmed/s", shown([each.per_second for each in found], "{:,.0f}"))
    report.figure("its processor per event, ms", shown([each.processor_ms for each in found], "{:.2f}"))


def _add_push_figures(report: Report, found: Sequence[PushFigures]) -> None:
    report.figure(f"webhooks stored/s, {USERS} at once", shown([each.per_second for each in found]))
    report.figure("202 after ms (median)", shown([each.answered_ms for each in found]))
    processor = shown([each.processor_ms for each in found], "{:.2f}")
    report.figure("processor of the service per webhook stored and published, ms", processor)
    report.figure("of one core, % busy meanwhile", shown([100 * each.busy for each in found], "{:.0f}"))
    report.figure("events confirmed/s, end to end", shown([each.events_per_second for each in found]))
    report.figure("last event confirmed after the last 202, s", shown([each.behind for each in found], "{:.2f}"))


def _connect_users(service: Process, parts: RealParts) -> RequestMaker:
    """Connect all users and pause their connections, so that webhooks are the only activity."""
    people = make_users(USERS)
    for person in people:
        assert connect(service, person), person
        path = f"{service.url}/api/users/{person.user}/connections/dexcom/worker"
        web.patch(path, json={"paused": True}).raise_for_status()
    wait_until(lambda: parts.waiting() == 0, 60, "the events of the connects")
    stored = parts.after_kill(people)
    accounts = {person: stored[person.user].connection.provider_account or "" for person in people}
    return RequestMaker(accounts, SystemClock().now().replace(microsecond=0) - timedelta(days=3))


async def push_all(service: Process, broker: str, senders: RequestMaker, of_each: int = WEBHOOKS_EACH) -> PushFigures:
    """Send to all users at once, and wait until the queue has all events."""
    made = senders.make(of_each)
    count = sum(map(len, made))
    async with channel_to(broker) as channel:

        async def event_count() -> int:
            return (await channel.queue_declare(QUEUE, passive=True)).message_count or 0

        before, used, began = await event_count(), seconds_used(service.worker), time.monotonic()
        taken = await send(service, made)
        stored = time.monotonic()
        with anyio.fail_after(120):
            while await event_count() < before + count:  # noqa: ASYNC110 - the awaited condition is in other processes
                await anyio.sleep(0.01)
        ended = time.monotonic()
    await anyio.sleep(1)  # the last are settled
    used = seconds_used(service.worker) - used
    return PushFigures(
        count / (stored - began),
        1000 * median(taken),
        1000 * used / count,
        used / (ended - began),
        count / (ended - began),
        ended - stored,
    )


def _push_calmly(service: Process, senders: RequestMaker) -> None:
    """Send one webhook at a time."""
    of_all = [each for some in senders.make(-(-CALM_COUNT // USERS)) for each in some]
    anyio.run(partial(send, service, [of_all[:CALM_COUNT]], pause=CALM_PAUSE_SECONDS))
    time.sleep(1)  # the last event is published


def _latencies(file: Path, push: Callable[[], object]) -> list[float]:
    """Return the milliseconds from commit to confirmation of the body's events."""
    before = len(file.read_text().splitlines()) if file.exists() else 0
    push()
    return [1000 * float(line) for line in file.read_text().splitlines()[before:]]


async def _publish(url: str) -> PublishFigures:
    """Publish events of three readings each without other activity in this process; wait for their confirms."""
    publisher = RabbitPublisher(url, SOURCE, queues=(EventQueue("alone"),))
    at = SystemClock().now()
    recorded = ReadingsRecorded(
        "dexcom", Origin.LIVE, tuple(StoredReading(reading(number), at, 1) for number in range(3))
    )
    changes = [Change(UserId("ada"), number, at, recorded) for number in range(1, EVENTS + 1)]
    left = iter(changes)

    async def publish_all() -> None:
        for each in left:
            assert await publisher.publish(each)

    async with anyio.create_task_group() as connected:
        await connected.start(publisher)
        began, used = time.monotonic(), time.process_time()
        async with anyio.create_task_group() as group:
            for _ in range(IN_FLIGHT):
                group.start_soon(publish_all)
        seconds, used = time.monotonic() - began, time.process_time() - used
        connected.cancel_scope.cancel()
    return PublishFigures(EVENTS / seconds, 1000 * used / EVENTS, len(encode_cloud_event(changes[0], SOURCE)))


if __name__ == "__main__":
    main()
