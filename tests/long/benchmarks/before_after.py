"""Processor time of a webhook and of a poll over TLS in this version, as a share of that in an earlier one.

    git worktree add --detach ../before COMMIT
    python -m tests.long.benchmarks.before_after ../before webhooks
    python -m tests.long.benchmarks.before_after ../before polls

Both versions run at the same time, each on a table and a broker's virtual host of its own. All other processes are of
this version. Each webhook and each poll stores a reading and publishes its event. Webhooks are sent to the versions in
turn. Polls follow the schedule, in both versions at once.
"""

import os
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple, TypeAlias

import anyio
import msgspec
import rich_click as click

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.adapters.dynamodb.admin import create_table
from bg_ingest.simulator.data import user_id
from tests.harness.web import web
from tests.integration.listener import channel_to
from tests.integration.servers import REGION, credentials
from tests.long.benchmarks.polls import OPTIONS, POLL_SETTINGS
from tests.long.benchmarks.processor import seconds_used
from tests.long.benchmarks.senders import RequestMaker
from tests.long.benchmarks.serving import listens, running, settings_on, shown
from tests.long.benchmarks.throughput import USERS, push_all
from tests.long.benchmarks.tls_front import tls_front
from tests.long.chaos.processes import ROOT, Process, provider_settings, run_folder, simulator, wait_until
from tests.long.chaos.real_parts import QUEUE, RealParts, real_parts
from tests.long.chaos.report import Report, console
from tests.long.chaos.store_dump import PROVIDER
from tests.long.chaos.users import SimulatedUser, connect, make_users

WEBHOOKS_EACH = 10
"""Webhooks of each user in a run. Short runs in alternation meet the same other work of the machine."""

POLLED_USERS, RUN_SECONDS = 120, 60
"""Users with a reading per minute, and length of a run of polls, also of the count without users. A run lasts as long
as the cadence and has one poll of each user, because their polls are not evenly spread: 30 s had 38 polls of 200."""

START_SECONDS = 10
"""Time until a process has taken its shards and read their directories. In the count without users, this work would be
subtracted from each run of polls."""

SETTLE_SECONDS, POLL_SETTLE_SECONDS = 10, 60
"""Time for the events and the first polls of the connects; time until all users are polled by schedule."""


class Counted(NamedTuple):
    """Events published and processor time used by a version."""

    events: int
    seconds: float


class Version(msgspec.Struct, frozen=True):
    """A running version."""

    service: Process
    broker: str
    """URL of its virtual host."""


Versions: TypeAlias = Mapping[str, Version]


@click.command()
@click.argument("before", type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path))
@click.argument("load", type=click.Choice(["webhooks", "polls"]))
@click.option("--runs", default=9, show_default=True)
def main(before: Path, load: str, runs: int) -> None:
    """Processor time of a webhook or of a poll beside that in the version of the directory BEFORE."""
    with run_folder("before-after") as folder, real_parts(folder) as parts, ExitStack() as stack:
        simulated = stack.enter_context(simulator(folder, OPTIONS))
        wait_until(lambda: listens(simulated), 30, "the simulator")
        front, certificate = tls_front(folder, simulated)
        stack.enter_context(front)
        trusted = ssl.create_default_context(cafile=certificate)
        provider = provider_settings(simulated, OPTIONS) | {
            "DEXCOM_API_BASE_URL": f"https://127.0.0.1:{front.port}",
            "SSL_CERT_FILE": str(certificate),
        }
        versions = {
            name: stack.enter_context(_running(folder, parts, name, provider | {"PYTHONPATH": str(tree)}))
            for name, tree in (("before", before), ("now", ROOT))
        }
        measure = _push if load == "webhooks" else _poll
        figures = measure(versions, runs, trusted)
    _report(f"Processor of the service for each of the {load}, medians of {runs} runs", figures)


@contextmanager
def _running(folder: Path, parts: RealParts, name: str, settings: Mapping[str, str]) -> Iterator[Version]:
    """Run a version on a table, a virtual host and a directory of its name."""
    endpoint, broker, own = f"http://127.0.0.1:{parts.dynamodb.port}", parts.node.vhost(name), folder / name
    own.mkdir()

    async def make() -> None:
        await create_table(endpoint, REGION, name, credentials())

    anyio.run(make)
    chosen = settings_on(parts) | POLL_SETTINGS | dict(settings) | {"DYNAMODB_TABLE": name, "RABBITMQ_URL": broker}
    with running(own, chosen, "bg_ingest.cli", "run") as service:
        yield Version(service, broker)


def _connect_all(versions: Versions, count: int, trusted: ssl.SSLContext) -> Sequence[SimulatedUser]:
    people = make_users(count)
    console.print(f"{count} users connect to each version ...")
    for version in versions.values():
        for person in people:
            assert connect(version.service, person, trusted), person
    return people


def _push(versions: Versions, runs: int, trusted: ssl.SSLContext) -> dict[str, list[float]]:
    people = _connect_all(versions, USERS, trusted)
    for version in versions.values():
        for person in people:
            path = f"{version.service.url}/api/users/{person.user}/connections/{PROVIDER}/worker"
            web.patch(path, json={"paused": True}).raise_for_status()
    accounts = {person: user_id(OPTIONS.seed, OPTIONS.client_id, person.login) for person in people}
    start = SystemClock().now().replace(microsecond=0) - timedelta(days=3)
    senders = {name: RequestMaker(accounts, start) for name in versions}
    time.sleep(SETTLE_SECONDS)

    def run(name: str) -> float:
        version = versions[name]
        return anyio.run(push_all, version.service, version.broker, senders[name], WEBHOOKS_EACH).processor_ms

    _alternate(versions, 1, run)  # connections are opened and caches are filled
    return _alternate(versions, runs, run)


def _poll(versions: Versions, runs: int, trusted: ssl.SSLContext) -> dict[str, list[float]]:
    """Count the events and the processor time of some seconds, less the time of a process without users."""
    time.sleep(START_SECONDS)
    idle = _count(versions, RUN_SECONDS)
    _connect_all(versions, POLLED_USERS, trusted)
    time.sleep(POLL_SETTLE_SECONDS)
    figures: dict[str, list[float]] = {name: [] for name in versions}
    for _ in range(runs):
        for name, counted in _count(versions, RUN_SECONDS).items():
            assert counted.events > 0.8 * POLLED_USERS, counted
            figures[name].append(1000 * (counted.seconds - idle[name].seconds) / counted.events)
    return figures


def _count(versions: Versions, seconds: float) -> dict[str, Counted]:
    """Count the events and the processor time of all versions during the same seconds."""

    def now() -> dict[str, Counted]:
        return {
            name: Counted(anyio.run(_event_count, version.broker), seconds_used(version.service.worker))
            for name, version in versions.items()
        }

    before = now()
    time.sleep(seconds)
    after = now()
    return {
        name: Counted(after[name].events - events, after[name].seconds - used)
        for name, (events, used) in before.items()
    }


async def _event_count(broker: str) -> int:
    async with channel_to(broker) as channel:
        return (await channel.queue_declare(QUEUE, passive=True)).message_count or 0


def _alternate(versions: Versions, runs: int, run: Callable[[str], float]) -> dict[str, list[float]]:
    """Return the figures of each version; the second of a pair is the first of the next."""
    figures: dict[str, list[float]] = {name: [] for name in versions}
    for number in range(runs):
        for name in list(versions)[:: -1 if number % 2 else 1]:
            figures[name].append(run(name))
    return figures


def _report(title: str, figures: Mapping[str, Sequence[float]]) -> None:
    report = Report(title)
    report.figure("load of the last minute on so many cores", f"{os.getloadavg()[0]:.1f} on {os.cpu_count()}")
    for name, measured in figures.items():
        report.figure(f"{name}, ms", shown(measured, "{:.2f}"))
    ratios = [now / before for before, now in zip(figures["before"], figures["now"], strict=True)]
    report.figure("ratio", shown(ratios, "{:.2f}"))
    report.show()


if __name__ == "__main__":
    main()
