"""Restart three replicas one after the other, during webhooks, reads and polls of all users.

    python -m tests.long.chaos.rolling [--rounds 2] [--people 30] [--seed N]

Each replica receives SIGTERM and is started again after its end. The next follows when the shards are shared.
Clients call any of the three, running or not, and another one once after a failure. Exit code 1 when both fail, or on
any loss.
"""

import random
import time
from datetime import timedelta
from pathlib import Path

import rich_click as click

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.simulator import SimulatorOptions
from bg_ingest.simulator.data import user_id
from tests.harness.web import web
from tests.long.chaos.checks import check_events
from tests.long.chaos.clients import Clients
from tests.long.chaos.consumer import check_polled, check_pushed, check_series, get_readings, write_event_file
from tests.long.chaos.fleet import Fleet, fleet
from tests.long.chaos.kills import DELAY, VISIBLE_AFTER
from tests.long.chaos.processes import Process, run_folder, wait_until
from tests.long.chaos.pushing import PUSH_OFFSET
from tests.long.chaos.real_parts import RealParts, check_outbox_ends, real_parts
from tests.long.chaos.report import Report, console
from tests.long.chaos.users import SimulatedUser, make_users, poll_now

SETTINGS = {
    "POLL_INTERVAL_SECONDS": "60",
    "BACKFILL_DAYS": "2",
    "SWEEP_DAYS": "0",
    "WEEKLY_SWEEP_DAYS": "0",
    "REQUESTS_PER_SECOND": "10000",
}


@click.command()
@click.option("--seed", type=int, default=None, help="Seed of users and readings; drawn when not given.")
@click.option("--rounds", default=2, show_default=True, help="Restarts of each replica.")
@click.option("--people", default=30, show_default=True)
def main(seed: int | None, rounds: int, people: int) -> None:
    """Restart one replica after the other; count requests that failed twice, and lost data."""
    seed = random.randrange(1_000_000) if seed is None else seed
    console.print(f"seed {seed}, {rounds} rounds, {people} users")
    began = time.monotonic()
    report = Report(f"Restarted one after the other (seed {seed})")
    options = SimulatorOptions(
        seed=seed, users=people, cadence_minutes=1, delay_seconds=DELAY, access_token_seconds=180
    )
    with run_folder("rolling") as folder:
        with (
            real_parts(folder) as parts,
            fleet(folder, parts.service, parts.dynamodb.port, options, SETTINGS) as replicas,
        ):
            all_users = make_users(people)
            failed = replicas.connect(all_users)
            report.check("users who could not connect", len(failed), holds=not failed, expected=f"0: {failed[:3]}")
            wait_until(lambda: replicas.polled() == people - len(failed), 60, "all users to be scheduled", every=1)
            service = replicas.replicas[0].process
            wait_until(lambda: all(_has_reading(service, each) for each in all_users), 60, "first readings", every=1)
            accounts = {each: user_id(seed, options.client_id, each.login) for each in all_users}
            clients = Clients([each.process for each in replicas.replicas], accounts, seed=seed, every=0.1)
            clients.start(lambda: all_users)
            restart_all(report, replicas, rounds)
            check_run(report, parts, replicas, clients, all_users, folder)
        report.figure("minutes", round((time.monotonic() - began) / 60, 1))
        report.show()


def _has_reading(service: Process, person: SimulatedUser) -> bool:
    return web.get(f"{service.url}/api/bg/{person.user}/latest").status_code == 200


def restart_all(report: Report, replicas: Fleet, rounds: int) -> None:
    time.sleep(10)
    codes, slowest = [], 0.0
    for _ in range(rounds):
        for each in replicas.replicas:
            console.print(f"restarting {each.name}")
            code, seconds = each.process.stop()
            codes.append(code)
            slowest = max(slowest, seconds)
            each.restart()
            replicas.get_balanced()
            time.sleep(5)
    report.check("exit codes of the restarts", codes, holds=not any(codes), expected="0 each")
    report.figure("slowest stop, s", round(slowest, 1))


def check_run(
    report: Report, parts: RealParts, replicas: Fleet, clients: Clients, people: list[SimulatedUser], folder: Path
) -> None:
    unanswered, attempts = clients.finish(60), clients.attempts
    report.check("webhooks without a 202 at the end", unanswered, holds=not unanswered, expected="0")
    report.figure("requests answered at once", dict(attempts.at_once))
    report.figure("healed by one retry", dict(attempts.healed))
    failed = len(attempts.failed)
    report.check("not healed by one retry", failed, holds=not failed, expected="0")
    for each in attempts.failed[:10]:
        report.wrong(f"failed twice: {each}")
    report.figure("slowest webhook, both tries, s", round(clients.slowest, 1))
    now = SystemClock().now().replace(microsecond=0)
    end, service = now - VISIBLE_AFTER, replicas.replicas[0].process
    for person in people:
        poll_now(service, person)
    time.sleep(10)  # a poll takes moments, and so does publishing
    window = now - timedelta(days=1), end
    check_polled(report, service, replicas.simulated, people, window)
    check_pushed(report, service, clients.readings, clients.since, now - PUSH_OFFSET / 2)
    shown = {each: get_readings(service, each) for each in people}
    codes = [each.process.stop()[0] for each in replicas.replicas]
    report.check("exit codes at the end", codes, holds=not any(codes), expected="0 each")
    events = parts.events()
    check_events(report, write_event_file(events, folder / "told"), check_outbox_ends(report, parts, people))
    check_series(report, events, shown, before=end)


if __name__ == "__main__":
    main()
