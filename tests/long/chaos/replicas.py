"""Three replicas poll many users every minute; then one is killed, one stopped, one suspended, one cut off.

    python -m tests.long.chaos.replicas [--users 3000] [--minutes 10] [--seed N] [--steady]

On a DynamoDB-compatible server, a RabbitMQ node and the simulated provider with one-minute sensors, each a process of
its own. The calls recorded by the provider show the user, time and replica of each poll. Exit code 1 on any
difference.
"""

import random
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import rich_click as click

from bg_ingest.simulator import SimulatorOptions
from tests.harness.web import web
from tests.long.chaos import replica_faults as partings
from tests.long.chaos.calls import Call, read_calls
from tests.long.chaos.checks import check_events
from tests.long.chaos.consumer import write_event_file
from tests.long.chaos.fleet import Fleet, fleet
from tests.long.chaos.lateness import Timetable, by_caller, check_cut_off, check_leaving, check_steady
from tests.long.chaos.processes import CALLS, processor, run_folder, wait_until
from tests.long.chaos.real_parts import RealParts, check_outbox_ends, real_parts
from tests.long.chaos.replica_faults import Phase, now
from tests.long.chaos.report import Report, console
from tests.long.chaos.series import check_all_series
from tests.long.chaos.users import SimulatedUser, make_users

CALLS_PER_HOUR = 200_000

DELAY = 3600

OVERLAP = 300
"""Seconds read again at each poll, instead of three hours: on two cores the simulator would limit the measurement."""

SETTINGS = {
    "POLL_INTERVAL_SECONDS": "60",
    "PROVIDER_CALLS_PER_HOUR": str(CALLS_PER_HOUR),
    "OVERLAP_SECONDS": str(OVERLAP),
    "BACKFILL_DAYS": "0",
    "SWEEP_DAYS": "0",
    "WEEKLY_SWEEP_DAYS": "0",
    "REQUESTS_PER_SECOND": "10000",
    "LOG_LEVEL": "INFO",
}

MAX_LAG_SECONDS = 5.0


@click.command()
@click.option("--seed", type=int, default=None, help="Seed of users and readings; drawn when not given.")
@click.option("--users", default=600, show_default=True)
@click.option("--minutes", default=3.0, show_default=True, help="Minutes without faults.")
@click.option("--steady", is_flag=True, help="Only the time without faults.")
def main(seed: int | None, users: int, minutes: float, *, steady: bool) -> None:
    """Poll all users from three replicas; count late, doubled and lost polls at the fault of one replica."""
    seed = random.randrange(1_000_000) if seed is None else seed
    console.print(f"seed {seed}, {users} users, {minutes:g} minutes")
    began = time.monotonic()
    report = Report(f"Three replicas (seed {seed})")
    options = SimulatorOptions(
        seed=seed,
        users=users,
        cadence_minutes=1,
        delay_seconds=DELAY,
        days_back=2,
        calls_per_hour=CALLS_PER_HOUR,
    )
    with run_folder("replicas") as folder:
        with real_parts(folder) as parts:
            with fleet(folder, parts.service, parts.dynamodb.port, options, SETTINGS, gated=["three"]) as replicas:
                people = make_users(users)
                connect(report, replicas, people)
                phases = go_through(report, parts, replicas, minutes, steady=steady)
                check_run(report, replicas, people, phases, folder)
            event_file = write_event_file(parts.events(), folder / "told")
            check_events(report, event_file, check_outbox_ends(report, parts, people))
        report.figure("minutes", round((time.monotonic() - began) / 60, 1))
        report.show()


def connect(report: Report, replicas: Fleet, people: Sequence[SimulatedUser]) -> None:
    """Connect all users, and wait until each has had two polls of the sensor's own rhythm and none is late."""
    start = now()
    failed = replicas.connect(people)
    report.check("users who could not connect", len(failed), holds=not failed, expected=f"0: {failed[:3]}")
    report.figure("connects a second, through the OAuth flow", round(len(people) / (now() - start), 1))
    wait_until(lambda: replicas.polled() == len(people) - len(failed), 60, "all users to be scheduled", every=1)
    time.sleep(130)
    report.figure("overdue polls of the connects are made up for after, s", 130 + replicas.get_calm())


def go_through(report: Report, parts: RealParts, replicas: Fleet, minutes: float, *, steady: bool) -> list[Phase]:
    console.print("steady")
    start, before = now(), _processor(parts, replicas)
    time.sleep(minutes * 60)
    phases = [Phase("steady", start, now(), MAX_LAG_SECONDS)]
    used = {each: spent - before[each] for each, spent in _processor(parts, replicas).items()}
    cores = "; ".join(f"{each} {spent / (phases[0].end - start):.2f}" for each, spent in used.items())
    report.figure("steady: cores used", cores)
    shares = replicas.shares()
    report.check("shards of each replica", shares, holds=max(shares) - min(shares) <= 1, expected="within one")
    if not steady:
        one, two, three = replicas.replicas
        phases.append(partings.kill(replicas, one, report))
        report.figure("kill -9: overdue polls are made up for, s later", replicas.get_calm())
        phases.append(partings.stop(replicas, two, report))
        report.figure("SIGTERM: overdue polls are made up for, s later", replicas.get_calm())
        phases.append(partings.suspend(replicas, one, report))
        report.figure("SIGSTOP: overdue polls are made up for, s later", replicas.get_calm())
        phases += partings.cut_off(replicas, three, report)
        shares = replicas.shares()
        report.check("shards afterwards", shares, holds=max(shares) - min(shares) <= 1, expected="within one")
    return phases


def check_run(
    report: Report, replicas: Fleet, people: Sequence[SimulatedUser], phases: Sequence[Phase], folder: Path
) -> None:
    time.sleep(5)
    end = now()
    limit = web.get(f"{replicas.simulated.url}/admin/state", timeout=60).json()["limit"]
    refused, most = limit["refused"], limit["most_taken"]
    report.check(
        "calls in an hour, at most", most, holds=most <= CALLS_PER_HOUR, expected=f"{CALLS_PER_HOUR:,} at most"
    )
    report.check("calls refused by the limit", refused, holds=not refused, expected="0")
    calls = read_calls(folder / CALLS)
    check_times(report, replicas, people, phases, calls, end)
    start = datetime.fromtimestamp(phases[0].start, UTC) - timedelta(seconds=DELAY)
    anyio.run(check_all_series, report, replicas.replicas[0].url, replicas.options, people, calls, start)
    codes = [each.process.stop()[0] for each in replicas.running]
    report.check("exit codes at the end", codes, holds=not any(codes), expected="0 each")


def check_times(
    report: Report,
    replicas: Fleet,
    people: Sequence[SimulatedUser],
    phases: Sequence[Phase],
    calls: Mapping[str, Sequence[Call]],
    end: float,
) -> None:
    times = Timetable(replicas.options, people, calls, phases[0].start, end)
    report.figure("steady: data calls by replica", by_caller(calls, phases[0]))
    for phase in phases:
        match phase.name:
            case "steady":
                check_steady(report, times, calls, phase)
            case "while cut off":
                check_cut_off(report, calls, phase)
            case _:
                check_leaving(report, times, calls, phase)


def _processor(parts: RealParts, replicas: Fleet) -> Mapping[str, float]:
    """Return the processor seconds used up to now by the three replicas, the store, the provider."""
    return {
        "replicas": sum(processor(each.process.worker) for each in replicas.running),
        "store": processor(parts.dynamodb.pid),
        "provider": processor(replicas.simulated.worker),
    }


if __name__ == "__main__":
    main()
