"""Backfill of five years of a user, half a million readings, during polls of a neighbour and with a kill on the way.

    python -m tests.long.chaos.years [--years 5]

Service and simulated provider are processes of their own, and the provider allows a call a second. Exit code 1 when
anything differs from the truth, when memory grows by more than 50 MB, when more than a window is read twice, or when
the neighbour has to wait.
"""

import time
from collections.abc import Callable
from datetime import timedelta
from math import ceil

import anyio
import rich_click as click

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.simulator import SimulatorOptions
from tests.harness.web import web
from tests.long.chaos.calls import Call, read_calls
from tests.long.chaos.memory import MAX_BACKFILL_BYTES, MemoryWatch
from tests.long.chaos.processes import (
    CALLS,
    Process,
    answers,
    provider_settings,
    run_folder,
    service,
    simulator,
    wait_until,
)
from tests.long.chaos.report import Report, console
from tests.long.chaos.series import check_all_series
from tests.long.chaos.store_dump import PROVIDER
from tests.long.chaos.users import SimulatedUser, connect, make_users, poll_now, status

CALLS_PER_HOUR = 3_600

WINDOW = 30
"""Most days in the answer of one call."""

KILL_SHARE = 0.4
"""Share of the backfill done before the kill."""

INTERVAL_SECONDS = 3.0
"""Seconds between two polls of the neighbour, which leave calls for the backfill."""

MAX_WAIT_SECONDS = 5.0
"""Most seconds until a requested poll of the neighbour."""

Calls = Callable[[SimulatedUser], list[Call]]


def read_backfill(
    report: Report, served: Process, person: SimulatedUser, neighbour: SimulatedUser, calls: Calls
) -> None:
    """Run the backfill, kill the process on the way, and poll the neighbour again and again."""
    waits: list[float] = []
    watched, killed = MemoryWatch(served.worker), False
    while (done := status(served, person)["backfill_done"]) < 1:
        if done > KILL_SHARE and not killed:
            _check_growth(report, "before the kill", watched)
            killed = True
            report.figure("kill -9 when so much had been read", f"{done:.0%}")
            served.kill()
            served.start()
            served.get_ready()
            watched = MemoryWatch(served.worker)
        asked, before = time.monotonic(), len(calls(neighbour))
        poll_now(served, neighbour)
        wait_until(lambda: len(calls(neighbour)) > before, 60, "the neighbour's poll", every=0.02)  # noqa: B023 - called here
        waits.append(time.monotonic() - asked)
        time.sleep(INTERVAL_SECONDS)
    _check_growth(report, "after it", watched)
    report.figure("polls of the neighbour meanwhile", len(waits))
    holds, expected = max(waits) <= MAX_WAIT_SECONDS, f"{MAX_WAIT_SECONDS:g} at most"
    report.check("the longest wait for one, s", round(max(waits), 1), holds=holds, expected=expected)


def check_calls(report: Report, calls: list[Call], days: int, limit: dict[str, int]) -> None:
    """Check that at most one window was read twice, and that the provider refused no call."""
    minutes = (calls[-1].at - calls[0].at) / 60
    most = ceil(days / WINDOW) + 1 + ceil(minutes / 5) + 1
    report.check("calls for it, polls included", len(calls), holds=len(calls) <= most, expected=f"{most} at most")
    report.figure("minutes", round(minutes, 1))
    report.check("calls refused by the limit", limit["refused"], holds=not limit["refused"], expected="0")


@click.command()
@click.option("--years", default=5, show_default=True)
def main(years: int) -> None:
    """Backfill years of one user, without an effect on others."""
    report = Report(f"{years} years of one user")
    days = years * 365 + 1
    options = SimulatorOptions(users=2, days_back=days + 1, delay_seconds=3600, calls_per_hour=CALLS_PER_HOUR)
    person, neighbour = make_users(2)
    with run_folder("years") as folder, simulator(folder, options) as simulated:
        wait_until(lambda: answers(simulated, "/admin/state"), 60, "the simulator")

        def calls(polled: SimulatedUser) -> list[Call]:
            return read_calls(folder / CALLS).get(polled.login, [])

        settings = provider_settings(simulated, options) | {"PROVIDER_CALLS_PER_HOUR": str(CALLS_PER_HOUR)}
        with service(folder, BACKFILL_DAYS="1", POLL_INTERVAL_SECONDS="300", **settings) as served:
            served.get_ready()
            for each in (neighbour, person):
                if not connect(served, each):
                    raise RuntimeError(f"{each.user} could not connect")
            wait_until(lambda: status(served, person).get("backfill_done") == 1, 60, "the first day")
            console.print(f"reading {days} days")
            _request_backfill(served, person, days)
            before = len(calls(person))
            wait_until(lambda: status(served, person)["backfill_done"] < 1, 60, "the backfill to be requested")
            read_backfill(report, served, person, neighbour, calls)
            check_calls(report, calls(person)[before:], days, _limit(simulated))
            start = SystemClock().now() - timedelta(days=days - 1)
            calls_by_login = {each.login: calls(each) for each in (person, neighbour)}
            anyio.run(check_all_series, report, served.url, options, [person], calls_by_login, start)
        report.show()


def _request_backfill(served: Process, person: SimulatedUser, days: int) -> None:
    path = f"/api/users/{person.user}/connections/{PROVIDER}/worker"
    web.patch(f"{served.url}{path}", json={"backfill_days": days}).raise_for_status()


def _limit(simulated: Process) -> dict[str, int]:
    found: dict[str, int] = web.get(f"{simulated.url}/admin/state").json()["limit"]
    return found


def _check_growth(report: Report, when: str, watched: MemoryWatch) -> None:
    grown = watched.growth
    holds, expected = grown < MAX_BACKFILL_BYTES, "less than 50 MB"
    report.check(f"{when} the process grew by, MB", round(grown / 1e6, 1), holds=holds, expected=expected)


if __name__ == "__main__":
    main()
