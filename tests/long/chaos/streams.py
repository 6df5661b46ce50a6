"""Follow all users by streams of three replicas, while replicas, the broker and the store go away and come back.

    python -m tests.long.chaos.streams [--users 60] [--minutes 6] [--seed N]

On a DynamoDB-compatible server, a RabbitMQ node and the simulated provider. Each user has live polls, a backfill, and
webhooks with new and revised readings. Each user is followed on each replica, and all users together on each replica.
The clients reconnect with their last numbers. Exit code 1 if one of them has not received each number exactly once and
in order, or bytes other than those of REST and of the broker.
"""

import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import rich_click as click

from bg_ingest.adapters.memory import Event
from bg_ingest.simulator import SimulatorOptions
from bg_ingest.simulator.data import user_id
from tests.harness.web import web
from tests.harness.webhook_sender import envelope, record
from tests.long.chaos.checks import check_events
from tests.long.chaos.clients import Clients
from tests.long.chaos.consumer import write_event_file
from tests.long.chaos.fleet import Fleet, fleet
from tests.long.chaos.gate import open_gate
from tests.long.chaos.kills import DELAY
from tests.long.chaos.processes import Process, TimedOut, run_folder, wait_until
from tests.long.chaos.pushing import PushedWebhook
from tests.long.chaos.real_parts import RealParts, check_outbox_ends, real_parts
from tests.long.chaos.report import Report, console
from tests.long.chaos.rolling import SETTINGS
from tests.long.chaos.stream_clients import StreamClient, StreamCounts, digest, running
from tests.long.chaos.stream_faults import StreamFaults
from tests.long.chaos.users import SimulatedUser, make_users

CATCH_UP_SECONDS = 75.0
"""Most seconds from a commit to its event at every client, with a lost hint, after the last fault."""

REVISED_SHARE = 0.25


class RevisingClients(Clients):
    """Senders of webhooks, a quarter of which revise the readings of an earlier one."""

    def _new(self, person: SimulatedUser) -> PushedWebhook:
        new = super()._new(person)
        if not self.accepted or self._chance.random() > REVISED_SHARE:
            return new
        earlier = self._chance.choice(self.accepted)
        records = [record(each.timestamp, self._chance.randint(60, 300)) for each in earlier.readings]
        return PushedWebhook(earlier.person, new.id, envelope(self._accounts[earlier.person], records), [])


@click.command()
@click.option("--seed", type=int, default=None, help="Seed of users and readings; drawn when not given.")
@click.option("--users", default=60, show_default=True, type=click.IntRange(2, 90))
@click.option("--minutes", default=6.0, show_default=True, help="Minutes of faults; each occurs at least once.")
def main(seed: int | None, users: int, minutes: float) -> None:
    """Follow all users through faults; compare the events of each client with REST and the broker."""
    seed = random.randrange(1_000_000) if seed is None else seed
    console.print(f"seed {seed}, {users} users, {minutes:g} minutes")
    began = time.monotonic()
    report = Report(f"Streams (seed {seed})")
    options = SimulatorOptions(seed=seed, users=users, cadence_minutes=1, delay_seconds=DELAY, access_token_seconds=180)
    with run_folder("streams") as folder:
        with (
            real_parts(folder) as parts,
            open_gate(parts.dynamodb.port) as gate,
            fleet(folder, parts.service, gate.port, options, SETTINGS) as replicas,
        ):
            people = make_users(users)
            failed = replicas.connect(people)
            report.check("users who could not connect", len(failed), holds=not failed, expected=f"0: {failed[:3]}")
            accounts = {person: user_id(seed, options.client_id, person.login) for person in people}
            senders = RevisingClients([each.process for each in replicas.replicas], accounts, seed=seed, every=0.2)
            counts = StreamCounts()
            clients = make_clients(replicas, people, counts)
            with running(clients) as stop_clients:
                senders.start(lambda: people)
                StreamFaults(report, parts, gate, replicas).go_through(minutes * 60)
                unanswered = senders.finish(60)
                report.check("webhooks without a 202 at the end", unanswered, holds=not unanswered, expected="0")
                wait_for_all(report, replicas, clients)
                stop_clients()
            served = {person.user: read_changes(replicas.replicas[0].process, person.user) for person in people}
            codes = [each.process.stop()[0] for each in replicas.replicas]
            report.check("exit codes at the end", codes, holds=not any(codes), expected="0 each")
            check_clients(report, clients, counts, served)
            check_broker(report, parts, parts.events(), people, served, folder)
        report.figure("minutes", round((time.monotonic() - began) / 60, 1))
        report.show()


def make_clients(replicas: Fleet, people: Sequence[SimulatedUser], counts: StreamCounts) -> list[StreamClient]:
    users = [person.user for person in people]
    groups = [[user] for user in users] + [users]
    return [StreamClient(replicas.replicas, home, group, counts) for home in replicas.replicas for group in groups]


def wait_for_all(report: Report, replicas: Fleet, clients: Sequence[StreamClient]) -> None:
    """Wait until each client has the change that is now the last one of each of its users."""
    url = replicas.replicas[0].url
    users = {user for client in clients for user in client.numbers}
    last = {user: web.get(f"{url}/api/bg/{user}/changes", params={"limit": 1}).json()["last"] for user in users}

    def count_behind() -> int:
        return sum(any(client.last(user) < last[user] for user in client.numbers) for client in clients)

    began = time.monotonic()
    try:
        wait_until(lambda: not count_behind(), CATCH_UP_SECONDS, "the clients to have all events", every=0.5)
    except TimedOut:
        report.wrong(f"{count_behind()} clients have not received the last events after {CATCH_UP_SECONDS:g} s")
    report.figure("all clients have all events after, s", round(time.monotonic() - began, 1))


def read_changes(service: Process, user: str) -> list[bytes]:
    """Return the events of a user as REST answers them, from the first one."""
    headers = {"accept": "application/x-ndjson"}
    answer = web.get(f"{service.url}/api/bg/{user}/changes", params={"after": 0}, headers=headers, timeout=60)
    return answer.raise_for_status().content.splitlines()[:-1]


def check_clients(
    report: Report, clients: Sequence[StreamClient], counts: StreamCounts, served: Mapping[str, Sequence[bytes]]
) -> None:
    digests = {user: [digest(event) for event in events] for user, events in served.items()}
    wrong_numbers, wrong_bytes, compared = [], [], 0
    for client in clients:
        for user, numbers in client.numbers.items():
            compared += len(numbers)
            if numbers != list(range(1, len(numbers) + 1)):
                wrong_numbers.append(f"{user} of {client.name}: {describe(numbers)}")
            elif client.digests[user] != digests[user][: len(numbers)]:
                wrong_bytes.append(f"{user} of {client.name}")
    report.figure("clients; events received", f"{len(clients)}; {compared:,}")
    report.figure("events by replica", dict(counts.events))
    report.figure("ends of streams", dict(counts.ends))
    report.check("lists that are not 1 to n", len(wrong_numbers), holds=not wrong_numbers, expected="0")
    report.check("lists with other bytes than REST", len(wrong_bytes), holds=not wrong_bytes, expected="0")
    unexpected = len(counts.unexpected)
    report.check("other events", unexpected, holds=not unexpected, expected="0")
    for text in [*wrong_numbers[:5], *wrong_bytes[:5], *counts.unexpected[:5]]:
        report.wrong(text)


def describe(numbers: Sequence[int]) -> str:
    """Return the numbers around the first one that does not follow."""
    at = next(index for index, number in enumerate(numbers) if number != index + 1)
    return f"{len(numbers)} events, ... {list(numbers[max(0, at - 3) : at + 3])} ..."


def check_broker(
    report: Report,
    parts: RealParts,
    events: Sequence[Event],
    people: Sequence[SimulatedUser],
    served: Mapping[str, Sequence[bytes]],
    folder: Path,
) -> None:
    bodies = {f"{user}/{number}": body for user, all_of in served.items() for number, body in enumerate(all_of, 1)}
    differing = sum(event.body != bodies[event.message_id] for event in events if event.message_id in bodies)
    report.figure("messages compared with REST", sum(event.message_id in bodies for event in events))
    report.check("messages with other bytes than REST", differing, holds=not differing, expected="0")
    kinds = Counter(event.routing_key.rpartition(".")[0] or event.routing_key for event in events)
    report.figure("messages by kind", dict(kinds))
    check_events(report, write_event_file(events, folder / "told"), check_outbox_ends(report, parts, people))


if __name__ == "__main__":
    main()
