"""Kill the service with -9 during backfill and webhooks, on a DynamoDB-compatible server and a real RabbitMQ.

    python -m tests.long.chaos.real_kills [--seed N] [--kills 20] [--people 12]

Like tests.long.chaos.kills, with additional webhooks: one without a 202 is sent again under its id. Store and broker
keep running. The state after a kill is read from the store itself. Exit code 1 on any difference.
"""

import random
import threading
import time
from datetime import timedelta
from pathlib import Path

import msgspec
import rich_click as click

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.simulator import SimulatorOptions
from bg_ingest.simulator.data import user_id
from tests.harness.web import web
from tests.long.chaos import kills as embedded
from tests.long.chaos.checks import Kill, check_events, check_grants
from tests.long.chaos.consumer import check_polled, check_pushed, check_series, get_readings, write_event_file
from tests.long.chaos.kills import (
    DAYS,
    DELAY,
    NEW_PEOPLE,
    SLOW_CALLS,
    START_KILL_SHARE,
    VISIBLE_AFTER,
    KillRun,
    backfill_pending,
)
from tests.long.chaos.processes import answers, provider_settings, run_folder, simulator, wait_until
from tests.long.chaos.pushing import PUSH_OFFSET, Sender
from tests.long.chaos.real_parts import RealParts, check_outbox_ends, real_parts
from tests.long.chaos.report import Report, console
from tests.long.chaos.users import connect, make_users

MAX_LIFE_SECONDS = 4.0
"""Most seconds between ready and kill."""


class RealKillRun(KillRun):
    """A Run whose store and broker outlive the service."""

    def __init__(self, folder: Path, parts: RealParts, *, seed: int, people: int) -> None:
        options = SimulatorOptions(
            seed=seed, users=people, days_back=DAYS, delay_seconds=DELAY, access_token_seconds=90
        )
        self.parts = parts
        self.chance = random.Random(seed)
        self.simulated = simulator(folder, options)
        self.service = parts.service(
            parts.dynamodb.port,
            **provider_settings(self.simulated, options),
            BACKFILL_DAYS=str(DAYS + 1),
            POLL_INTERVAL_SECONDS="300",
        )
        self.people = make_users(people)
        self.connected = []
        self.kills = []
        self.reconnected = {}
        accounts = {each: user_id(seed, options.client_id, each.login) for each in self.people}
        self.sender = Sender(self.service, accounts, seed=seed, every=0.2)

    def live_and_die(self) -> None:
        self.service.start()
        while_starting = bool(self.connected) and self.chance.random() < START_KILL_SHARE
        if not while_starting:
            self.service.get_ready()
        instant = self.chance.uniform(0.1, 2.5 if while_starting else MAX_LIFE_SECONDS)
        killer = threading.Timer(instant, self.service.kill)
        killer.start()
        for person in [] if while_starting else self.strangers[: self.chance.randint(1, NEW_PEOPLE)]:
            if self.service.alive and connect(self.service, person):
                self.connected.append(person)
        killer.join()
        self.kills.append(Kill(SystemClock().now(), self.parts.after_kill(self.people)))
        self._log_kill(while_starting, instant)


def serve_simulator(run: RealKillRun) -> None:
    wait_until(lambda: answers(run.simulated, "/admin/state"), 30, "the simulator")
    for endpoint, seconds in SLOW_CALLS.items():
        fault = {"kind": "slow", "endpoint": endpoint, "seconds": seconds}
        web.post(f"{run.simulated.url}/admin/faults", json=fault).raise_for_status()


@click.command()
@click.option("--seed", type=int, default=None, help="Seed of users, readings and moments; drawn when not given.")
@click.option("--kills", default=20, show_default=True)
@click.option("--people", default=12, show_default=True)
def main(seed: int | None, kills: int, people: int) -> None:
    """Kill the service again and again; compare its stored and published data with the truth and the pushes."""
    seed = random.randrange(1_000_000) if seed is None else seed
    console.print(f"seed {seed}, {kills} kills, {people} users, {DAYS} days each")
    began = time.monotonic()
    report = Report(f"Killed with -9 on the real parts (seed {seed})")
    with run_folder("real-kills") as folder:
        with real_parts(folder) as parts:
            run = RealKillRun(folder, parts, seed=seed, people=people)
            with run.simulated:
                try:
                    serve_simulator(run)
                    run.sender.start(lambda: list(run.connected))
                    for _ in range(kills):
                        run.live_and_die()
                    run.service.start()
                    embedded.SETTLE_SECONDS = 150
                    run.settle()
                    check_run(report, run, folder)
                finally:
                    if run.service.alive:
                        run.service.kill()
        report.figure("minutes", round((time.monotonic() - began) / 60, 1))
        report.show()


def check_run(report: Report, run: RealKillRun, folder: Path) -> None:
    unanswered = run.sender.finish(60)
    report.check("webhooks without a 202 at the end", unanswered, holds=not unanswered, expected="0")
    again = sum(each.attempts > 1 for each in run.sender.accepted)
    report.figure("webhooks; sent more than once", f"{len(run.sender.accepted):,}; {again:,}")
    report.figure("answers to webhooks", dict(run.sender.answers))
    end = SystemClock().now().replace(microsecond=0) - VISIBLE_AFTER
    run.catch_up(end)
    oldest = SystemClock().now() - PUSH_OFFSET / 2
    check_pushed(report, run.service, run.sender.readings, run.sender.since, oldest)
    check_polled(report, run.service, run.simulated, run.people, (end - timedelta(days=DAYS + 2), end))
    shown = {each: get_readings(run.service, each) for each in run.people}
    time.sleep(3)  # committed changes are published within moments
    code, _ = run.service.stop()
    report.check("exit code at the end", code, holds=code == 0, expected="0")
    in_backfill = sum(backfill_pending(each.remaining.values()) > 0 for each in run.kills)
    report.check("kills during a backfill", in_backfill, holds=in_backfill == len(run.kills), expected="all")
    events = run.parts.events()
    check_events(report, write_event_file(events, folder / "told"), check_outbox_ends(report, run.parts, run.people))
    check_series(report, events, shown, before=end)  # polls continue while one user after the other is read
    rotations = msgspec.json.decode(web.get(f"{run.simulated.url}/admin/rotations").content)
    check_grants(report, rotations, run.kills, run.parts.after_kill(run.people), run.reconnected)


if __name__ == "__main__":
    main()
