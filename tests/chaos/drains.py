"""Stop the service with SIGTERM in the middle of things; exit code 1 unless it ends with 0 within 20 s each time.

    python -m tests.chaos.drains

Also: a crash of the runtime stops the process with 1, and so does a store that another process has.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import rich_click as click

from bg_ingest.simulator import SimulatorOptions
from tests.chaos.memory import USER, path_of, stalled
from tests.chaos.past import write_past
from tests.chaos.people import Person, connect, poll_now, status
from tests.chaos.processes import (
    Process,
    answers,
    pointing_at,
    service,
    service_settings,
    simulator,
    until,
    workplace,
)
from tests.chaos.report import Report, console
from tests.chaos.stored import after_kill
from tests.integration.processes import free_port
from tests.web import web

LONGEST = 20.0
"""Seconds from SIGTERM to the end."""

ADA = Person("ada", "SandboxUser1")

OPTIONS = SimulatorOptions(users=1, days_back=3, access_token_seconds=1)
"""Tokens that are over at once: every look begins with a refresh."""


def judge(report: Report, name: str, stopped: tuple[int, float]) -> None:
    code, seconds = stopped
    report.check(
        name,
        f"exit code {code} after {seconds:.2f} s",
        holds=code == 0 and seconds < LONGEST,
        wanted=f"exit code 0 within {LONGEST:g} s",
    )


def with_nothing_going_on(report: Report, place: Path) -> None:
    with service(place) as served:
        served.get_ready()
        judge(report, "nothing going on", served.stop())


def with_a_stalled_reader(report: Report, place: Path) -> None:
    write_past(place / "data", USER, years=10)
    with service(place) as served:
        served.get_ready()
        with stalled(served, path_of(10, "full")):
            judge(report, "a reader of ten years that stalls", served.stop())


def with_a_slow_call(report: Report, place: Path) -> None:
    with connected(place) as (served, simulated):
        poll_during(served, simulated, kind="slow", endpoint="egvs", seconds=60)
        judge(report, "a call to the provider that takes 60 s", served.stop())


def with_a_slow_refresh(report: Report, place: Path) -> None:
    for seconds in (5, 10):
        with connected(place / f"{seconds}") as (served, simulated):
            poll_during(served, simulated, kind="slow", endpoint="token", seconds=seconds)
            judge(report, f"a refresh that takes {seconds} s", served.stop())
            newest = web.get(f"{simulated.url}/admin/rotations").json()[-1]["new"]
            grant = after_kill(place / f"{seconds}" / "data", [ADA.user])[ADA.user].grant
            kept = grant is not None and grant.refresh == newest and not grant.claimed
            report.check(f"the new tokens of {seconds} s", "stored" if kept else "lost", holds=kept, wanted="stored")


def with_a_crash(report: Report, place: Path) -> None:
    with simulating(place) as simulated:
        port = free_port()
        settings = service_settings(place, port) | pointing_at(simulated, OPTIONS)
        with Process(place, "service", "tests.chaos.crashing", port=port, **settings) as served:
            served.get_ready()
            connect(served, ADA)  # the first event meets the bug
            code = served.ends(30)
    report.check("a crash of the runtime", f"exit code {code}", holds=code == 1, wanted="exit code 1")


def with_a_store_in_use(report: Report, place: Path) -> None:
    with service(place) as first:
        first.get_ready()
        with service(place) as second:
            code = second.ends(30)
    report.check("a store that another process has", f"exit code {code}", holds=code == 1, wanted="exit code 1")


@contextmanager
def simulating(place: Path) -> Iterator[Process]:
    place.mkdir(exist_ok=True)
    simulated = simulator(place, OPTIONS)
    with simulated:
        until(lambda: answers(simulated, "/admin/state"), 30, "the simulator")
        yield simulated


@contextmanager
def connected(place: Path) -> Iterator[tuple[Process, Process]]:
    """Serve with one person connected whose past has been read."""
    with simulating(place) as simulated, service(place, **pointing_at(simulated, OPTIONS)) as served:
        served.get_ready()
        connect(served, ADA)
        until(lambda: status(served, ADA).get("backfill_done") == 1, 30, "the past")
        yield served, simulated


def poll_during(served: Process, simulated: Process, **fault: Any) -> None:
    """Have the provider looked at, and return when that look has met a fault."""
    web.post(f"{simulated.url}/admin/faults", content=msgspec.json.encode(fault)).raise_for_status()
    poll_now(served, ADA)
    until(
        lambda: bool(web.get(f"{simulated.url}/admin/state").json()["faults"][-1]["met"]),
        30,
        "a call to be under way",
    )


PARTS: tuple[Callable[[Report, Path], None], ...] = (
    with_nothing_going_on,
    with_a_stalled_reader,
    with_a_slow_call,
    with_a_slow_refresh,
    with_a_crash,
    with_a_store_in_use,
)


@click.command()
def main() -> None:
    """SIGTERM in the middle of things."""
    report = Report("Stopped with SIGTERM")
    with workplace("drains") as place:
        for number, part in enumerate(PARTS):
            console.print(part.__name__.replace("_", " "))
            (place / f"{number}").mkdir()
            part(report, place / f"{number}")
        report.show()


if __name__ == "__main__":
    main()
