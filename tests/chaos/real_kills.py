"""Kill the service with -9 during backfill and webhooks, on a DynamoDB-compatible server and a real RabbitMQ.

    python -m tests.chaos.real_kills [--seed N] [--kills 20] [--people 12]

As tests.chaos.kills, with webhooks besides: one that got no 202 is sent again under its id. The store and the broker
live on; what a kill left is read from the store itself. Exit code 1 on any difference.
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
from bg_ingest.simulator.wire import user_id
from tests.chaos import kills as embedded
from tests.chaos.kills import DAYS, DELAY, KILLED_STARTING, NEW_PEOPLE, SHOWN, SLOW, Run, unread
from tests.chaos.people import connect, crowd
from tests.chaos.processes import answers, pointing_at, simulator, until, workplace
from tests.chaos.pushing import LONG_BEFORE, Sender
from tests.chaos.real_parts import RealParts, judge_ends, real_parts
from tests.chaos.rebuilt import judge_pushed, judge_series, judge_truth, served, written
from tests.chaos.report import Report, console
from tests.chaos.verdict import Kill, judge_grants, judge_told
from tests.web import web

LONGEST_LIFE = 4.0
"""Seconds between ready and kill, at most."""


class RealRun(Run):
    """A Run whose store and broker outlive the service."""

    def __init__(self, place: Path, parts: RealParts, *, seed: int, people: int) -> None:  # the other makes its own
        options = SimulatorOptions(
            seed=seed, users=people, days_back=DAYS, delay_seconds=DELAY, access_token_seconds=90
        )
        self.parts = parts
        self.chance = random.Random(seed)
        self.simulated = simulator(place, options)
        self.service = parts.service(
            parts.dynamodb.port,
            **pointing_at(self.simulated, options),
            BACKFILL_DAYS=str(DAYS + 1),
            POLL_INTERVAL_SECONDS="300",
        )
        self.people = crowd(people)
        self.connected = []
        self.kills = []
        self.reconnected = {}
        accounts = {each: user_id(seed, options.client_id, each.login) for each in self.people}
        self.sender = Sender(self.service, accounts, seed=seed, every=0.2)

    def live_and_die(self) -> None:
        self.service.start()
        while_starting = bool(self.connected) and self.chance.random() < KILLED_STARTING
        if not while_starting:
            self.service.get_ready()
        moment = self.chance.uniform(0.1, 2.5 if while_starting else LONGEST_LIFE)
        killer = threading.Timer(moment, self.service.kill)
        killer.start()
        for person in [] if while_starting else self.strangers[: self.chance.randint(1, NEW_PEOPLE)]:
            if self.service.alive and connect(self.service, person):
                self.connected.append(person)
        killer.join()
        self.kills.append(Kill(SystemClock().now(), self.parts.after_kill(self.people)))
        self._tell(while_starting, moment)


def serve_simulator(run: RealRun) -> None:
    until(lambda: answers(run.simulated, "/admin/state"), 30, "the simulator")
    for endpoint, seconds in SLOW.items():
        fault = {"kind": "slow", "endpoint": endpoint, "seconds": seconds}
        web.post(f"{run.simulated.url}/admin/faults", json=fault).raise_for_status()


@click.command()
@click.option("--seed", type=int, default=None, help="Of people, readings and moments; drawn when not given.")
@click.option("--kills", default=20, show_default=True)
@click.option("--people", default=12, show_default=True)
def main(seed: int | None, kills: int, people: int) -> None:
    """Kill the service again and again; compare what it stored and told with the truth and what was pushed."""
    seed = random.randrange(1_000_000) if seed is None else seed
    console.print(f"seed {seed}, {kills} kills, {people} people, {DAYS} days each")
    began = time.monotonic()
    report = Report(f"Killed with -9 on the real parts (seed {seed})")
    with workplace("real-kills") as place:
        with real_parts(place) as parts:
            run = RealRun(place, parts, seed=seed, people=people)
            with run.simulated:
                try:
                    serve_simulator(run)
                    run.sender.start(lambda: list(run.connected))
                    for _ in range(kills):
                        run.live_and_die()
                    run.service.start()
                    embedded.SETTLING = 150
                    run.settle()
                    judge(report, run, place)
                finally:
                    if run.service.alive:
                        run.service.kill()
        report.figure("minutes", round((time.monotonic() - began) / 60, 1))
        report.show()


def judge(report: Report, run: RealRun, place: Path) -> None:
    unanswered = run.sender.finish(60)
    report.check("webhooks without a 202 at the end", unanswered, holds=not unanswered, wanted="0")
    again = sum(each.tries > 1 for each in run.sender.accepted)
    report.figure("webhooks; sent more than once", f"{len(run.sender.accepted):,}; {again:,}")
    report.figure("answers to webhooks", dict(run.sender.answers))
    end = SystemClock().now().replace(microsecond=0) - SHOWN
    run.catch_up(end)
    oldest = SystemClock().now() - LONG_BEFORE / 2
    judge_pushed(report, run.service, run.sender.readings, run.sender.since, oldest)
    judge_truth(report, run.service, run.simulated, run.people, (end - timedelta(days=DAYS + 2), end))
    shown = {each: served(run.service, each) for each in run.people}
    time.sleep(3)  # what is committed is told within moments
    code, _ = run.service.stop()
    report.check("exit code at the end", code, holds=code == 0, wanted="0")
    in_backfill = sum(unread(each.left.values()) > 0 for each in run.kills)
    report.check("kills during a backfill", in_backfill, holds=in_backfill == len(run.kills), wanted="all")
    told = run.parts.told()
    judge_told(report, written(told, place / "told"), judge_ends(report, run.parts, run.people))
    judge_series(report, told, shown)
    rotations = msgspec.json.decode(web.get(f"{run.simulated.url}/admin/rotations").content)
    judge_grants(report, rotations, run.kills, run.parts.after_kill(run.people), run.reconnected)


if __name__ == "__main__":
    main()
