"""Restart three replicas one after the other, while webhooks and reads come and everybody is polled.

    python -m tests.chaos.rolling [--rounds 2] [--people 30] [--seed N]

Each replica is asked to end, started again once it is gone, and the next follows when the shards are shared out.
Clients ask any of the three, running or not, and another one once when that fails. Exit code 1 when both fail, or on
any loss.
"""

import random
import time
from datetime import timedelta
from pathlib import Path

import rich_click as click

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.simulator import SimulatorOptions
from bg_ingest.simulator.wire import user_id
from tests.chaos.clients import Clients
from tests.chaos.fleet import Fleet, fleet
from tests.chaos.kills import DELAY, SHOWN
from tests.chaos.people import Person, crowd, poll_now
from tests.chaos.processes import until, workplace
from tests.chaos.pushing import LONG_BEFORE
from tests.chaos.real_parts import RealParts, judge_ends, real_parts
from tests.chaos.rebuilt import judge_pushed, judge_series, judge_truth, served, written
from tests.chaos.report import Report, console
from tests.chaos.verdict import judge_told

SETTINGS = {
    "POLL_INTERVAL_SECONDS": "60",
    "BACKFILL_DAYS": "2",
    "SWEEP_DAYS": "0",
    "WEEKLY_SWEEP_DAYS": "0",
    "REQUESTS_PER_SECOND": "10000",
}


@click.command()
@click.option("--seed", type=int, default=None, help="Of people and readings; drawn when not given.")
@click.option("--rounds", default=2, show_default=True, help="How often each replica is restarted.")
@click.option("--people", default=30, show_default=True)
def main(seed: int | None, rounds: int, people: int) -> None:
    """Restart one replica after the other; see which requests failed twice, and what was lost."""
    seed = random.randrange(1_000_000) if seed is None else seed
    console.print(f"seed {seed}, {rounds} rounds, {people} people")
    began = time.monotonic()
    report = Report(f"Restarted one after the other (seed {seed})")
    options = SimulatorOptions(
        seed=seed, users=people, cadence_minutes=1, delay_seconds=DELAY, access_token_seconds=180
    )
    with workplace("rolling") as place:
        with (
            real_parts(place) as parts,
            fleet(place, parts.service, parts.dynamodb.port, options, SETTINGS) as replicas,
        ):
            everybody = crowd(people)
            failed = replicas.connect(everybody)
            report.check("users who could not connect", len(failed), holds=not failed, wanted=f"0: {failed[:3]}")
            until(lambda: replicas.polled() == people - len(failed), 60, "everybody to be scheduled", every=1)
            accounts = {each: user_id(seed, options.client_id, each.login) for each in everybody}
            clients = Clients([each.process for each in replicas.replicas], accounts, seed=seed, every=0.1)
            clients.start(lambda: everybody)
            restart_all(report, replicas, rounds)
            judge(report, parts, replicas, clients, everybody, place)
        report.figure("minutes", round((time.monotonic() - began) / 60, 1))
        report.show()


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
    report.check("exit codes of the restarts", codes, holds=not any(codes), wanted="0 each")
    report.figure("slowest stop, s", round(slowest, 1))


def judge(
    report: Report, parts: RealParts, replicas: Fleet, clients: Clients, people: list[Person], place: Path
) -> None:
    unanswered, attempts = clients.finish(60), clients.attempts
    report.check("webhooks without a 202 at the end", unanswered, holds=not unanswered, wanted="0")
    report.figure("requests answered at once", dict(attempts.at_once))
    report.figure("healed by one retry", dict(attempts.healed))
    failed = len(attempts.failed)
    report.check("not healed by one retry", failed, holds=not failed, wanted="0")
    for each in attempts.failed[:10]:
        report.wrong(f"failed twice: {each}")
    report.figure("slowest webhook, both tries, s", round(clients.slowest, 1))
    now = SystemClock().now().replace(microsecond=0)
    end, service = now - SHOWN, replicas.replicas[0].process
    for person in people:
        poll_now(service, person)
    time.sleep(10)  # a look takes moments, and so does telling
    window = now - timedelta(days=1), end
    judge_truth(report, service, replicas.simulated, people, window)
    judge_pushed(report, service, clients.readings, clients.since, now - LONG_BEFORE / 2)
    shown = {each: served(service, each) for each in people}
    codes = [each.process.stop()[0] for each in replicas.replicas]
    report.check("exit codes at the end", codes, holds=not any(codes), wanted="0 each")
    told = parts.told()
    judge_told(report, written(told, place / "told"), judge_ends(report, parts, people))
    judge_series(report, told, shown, before=end)


if __name__ == "__main__":
    main()
