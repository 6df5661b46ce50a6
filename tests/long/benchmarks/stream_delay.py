"""Delay from the 202 of a webhook to its event: on the stream of another replica, and at a plain AMQP consumer.

    python -m tests.long.benchmarks.stream_delay [--users 60] [--seconds 60]

Three replicas on a DynamoDB-compatible server and a RabbitMQ node. Each webhook goes to the owner of its user, and the
stream of the user is open on a replica that does not own the user. Then all replicas are restarted and lose 30 % of
their hints. Exit code 1 beyond the limits.
"""

import json
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from statistics import median, quantiles
from typing import Any

import anyio
import httpx
import rich_click as click
from aiormq.abc import DeliveredMessage
from anyio.abc import TaskStatus

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.domain.ids import UserId, shard_of
from bg_ingest.simulator import SimulatorOptions
from bg_ingest.simulator.data import user_id
from tests.harness.web import NO_CERTIFICATES
from tests.harness.webhook_sender import envelope, record, signed, to_bytes
from tests.integration.listener import listening
from tests.long.chaos.event_source import open_source
from tests.long.chaos.fleet import Fleet, Replica, fleet
from tests.long.chaos.processes import run_folder, wait_until
from tests.long.chaos.real_parts import RealParts, real_parts
from tests.long.chaos.report import Report, console
from tests.long.chaos.users import SimulatedUser, make_users

SETTINGS = {
    "POLL_INTERVAL_SECONDS": "3600",  # events of polls would hide a lost hint
    "BACKFILL_DAYS": "0",
    "SWEEP_DAYS": "0",
    "WEEKLY_SWEEP_DAYS": "0",
    "REQUESTS_PER_SECOND": "10000",
}

WEBHOOKS_PER_SECOND = 10.0
MAX_BEYOND_BROKER_MS = 50.0
LOST_SHARE, LOSSY_ROUNDS, MAX_LATE_SECONDS = 0.3, 2, 65.0
PUSHED_AGE = timedelta(days=30)

Event = tuple[str, str]
"""User, and timestamp of the reading: each webhook has another one."""


class Arrivals:
    """Times of the first arrival of each event, on the clock of this process."""

    def __init__(self) -> None:
        self.accepted: dict[Event, float] = {}
        self.streamed: dict[Event, float] = {}
        self.consumed: dict[Event, float] = {}
        self._added = anyio.Event()

    def delays(self, arrived: Mapping[Event, float]) -> list[float]:
        return [arrived[event] - at for event, at in self.accepted.items() if event in arrived]

    async def wait(self, seconds: float) -> None:
        """Wait until each accepted webhook has arrived at its stream."""
        with anyio.move_on_after(seconds):
            while self.accepted.keys() - self.streamed.keys():
                self._added = anyio.Event()
                await self._added.wait()

    def add_accepted(self, user: str, at: datetime) -> None:
        self.accepted[user, f"{at:%Y-%m-%dT%H:%M:%SZ}"] = time.monotonic()

    def add_streamed(self, event: Mapping[str, Any]) -> None:
        note(self.streamed, event)
        self._added.set()

    async def consume(self, message: DeliveredMessage) -> None:
        note(self.consumed, json.loads(message.body))


def note(arrived: dict[Event, float], event: Mapping[str, Any]) -> None:
    data = event["data"]
    for reading in data.get("readings", []):
        arrived.setdefault((data["user_id"], reading["timestamp"]), time.monotonic())


async def push(client: httpx.AsyncClient, url: str, user: str, account: str, at: datetime) -> None:
    """Send a reading by a webhook, and return once it is accepted."""
    body = envelope(account, [record(at)])
    headers = signed(body, f"delay-{at.timestamp():.0f}", SystemClock().now())
    texts = {name: to_bytes(value).decode() for name, value in headers.items()}
    answer = await client.post(f"{url}/api/bg/{user}/webhook", content=body, headers=texts)
    if answer.status_code != 202:
        raise RuntimeError(f"a webhook was answered with {answer.status_code}: {answer.text}")


async def follow(port: int, user: str, arrivals: Arrivals, key: str = "", *, task_status: TaskStatus[None]) -> None:
    """Follow a user from now on; started with the snapshot of the stream's begin."""
    async with open_source(port, f"/api/bg/{user}/changes", key=key) as source:
        async for event in source.events():
            if event.name == "snapshot":
                task_status.started()
            elif event.name != ":":
                arrivals.add_streamed(event.data)


class DelayRun:
    """Replicas with connected users, each with its owner and its account at the provider."""

    def __init__(self, parts: RealParts, replicas: Fleet, accounts: Mapping[SimulatedUser, str]) -> None:
        self._parts = parts
        self._replicas = replicas
        self._accounts = accounts
        self._next = SystemClock().now().replace(microsecond=0) - PUSHED_AGE

    async def measure(self, rounds: Sequence[Sequence[SimulatedUser]], pause: float) -> Arrivals:
        """Send a webhook to each user of a round, and wait for all events before the next round."""
        owners = await anyio.to_thread.run_sync(self._owners)
        arrivals = Arrivals()
        async with (
            listening(self._parts.url) as listener,
            httpx.AsyncClient(verify=NO_CERTIFICATES, trust_env=False, timeout=30) as client,
            anyio.create_task_group() as group,
        ):
            consumer = await listener.channel.basic_consume(listener.queue, arrivals.consume, no_ack=True)
            for index, (person, owner) in enumerate(owners.items()):
                others = [replica for replica in self._replicas.replicas if replica is not owner]
                await group.start(follow, others[index % 2].process.port, person.user, arrivals)
            for people in rounds:
                for person in people:
                    await self._send(client, owners[person], person, arrivals)
                    await anyio.sleep(pause)
                await arrivals.wait(MAX_LATE_SECONDS + 5)
            await listener.channel.basic_cancel(consumer.consumer_tag or "")
            group.cancel_scope.cancel()
        return arrivals

    async def _send(self, client: httpx.AsyncClient, owner: Replica, person: SimulatedUser, arrivals: Arrivals) -> None:
        self._next += timedelta(minutes=5)
        await push(client, owner.url, person.user, self._accounts[person], self._next)
        arrivals.add_accepted(person.user, self._next)

    def _owners(self) -> dict[SimulatedUser, Replica]:
        by_id = {replica.report()["owner"]: replica for replica in self._replicas.replicas}
        leases = self._parts.snapshot().leases
        return {person: by_id[leases[shard_of(UserId(person.user))].owner] for person in self._accounts}


def check_delays(report: Report, arrivals: Arrivals) -> None:
    streamed, consumed = (arrivals.delays(arrived) for arrived in (arrivals.streamed, arrivals.consumed))
    slow, bound = percentile(streamed), percentile(consumed) + MAX_BEYOND_BROKER_MS
    report.figure("webhooks; events streamed; consumed", f"{len(arrivals.accepted)}; {len(streamed)}; {len(consumed)}")
    report.figure("AMQP consumer, ms: median; 99 %", f"{median(consumed) * 1e3:.1f}; {percentile(consumed):.1f}")
    text = f"{median(streamed) * 1e3:.1f}; {slow:.1f}"
    report.check("stream, ms: median; 99 %", text, holds=slow <= bound, expected=f"{bound:.1f} at most")
    check_all(report, "events not streamed", arrivals)


def check_lossy(report: Report, arrivals: Arrivals) -> None:
    delays = arrivals.delays(arrivals.streamed)
    late = sum(delay > 1 for delay in delays)
    report.check("hints lost: events later than 1 s", f"{late} of {len(delays)}", holds=late > 0, expected="some")
    latest = round(max(delays), 1)
    report.check("hints lost: latest event, s", latest, holds=latest <= MAX_LATE_SECONDS, expected="65 at most")
    check_all(report, "hints lost: events not streamed", arrivals)


def check_all(report: Report, name: str, arrivals: Arrivals) -> None:
    missing = len(arrivals.accepted.keys() - arrivals.streamed.keys())
    report.check(name, missing, holds=not missing, expected="0")


def percentile(seconds: Sequence[float]) -> float:
    """Return the 99th percentile in milliseconds."""
    return quantiles(seconds, n=100)[98] * 1e3


@click.command()
@click.option("--users", default=60, show_default=True, type=click.IntRange(2, 90))
@click.option("--seconds", default=60.0, show_default=True, help="Seconds of webhooks without lost hints.")
def main(users: int, seconds: float) -> None:
    """Measure the delay of events between replicas."""
    report = Report("Delay of events")
    options = SimulatorOptions(users=users, days_back=2)
    with run_folder("stream-delay") as folder:
        lost_hints = folder / "lost-hints"
        with real_parts(folder) as parts:
            service = partial(parts.service, module="tests.long.chaos.lossy_hints", LOST_HINTS=str(lost_hints))
            with fleet(folder, service, parts.dynamodb.port, options, SETTINGS) as replicas:
                people = make_users(users)
                failed = replicas.connect(people)
                report.check("users who could not connect", len(failed), holds=not failed, expected="0")
                wait_until(lambda: replicas.polled() == users, 60, "all users to be scheduled", every=1)
                accounts = {person: user_id(options.seed, options.client_id, person.login) for person in people}
                run = DelayRun(parts, replicas, accounts)
                console.print("webhooks")
                rounds = 1 + int(seconds * WEBHOOKS_PER_SECOND) // users
                check_delays(report, anyio.run(run.measure, [people] * rounds, 1 / WEBHOOKS_PER_SECOND))
                console.print(f"again, with {LOST_SHARE:.0%} of the hints lost")
                lost_hints.write_text(str(LOST_SHARE))
                for replica in replicas.replicas:
                    replica.process.stop()
                    replica.restart()
                replicas.get_balanced()
                check_lossy(report, anyio.run(run.measure, [people] * LOSSY_ROUNDS, 1 / WEBHOOKS_PER_SECOND))
        report.show()


if __name__ == "__main__":
    main()
