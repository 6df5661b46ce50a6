"""Stop the service with SIGTERM during its work; exit code 1 unless it ends with 0 within 20 s each time.

    python -m tests.long.chaos.drains

Also: a crash of the runtime stops the process with 1, and so does a store in use by another process.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import rich_click as click

from bg_ingest.simulator import SimulatorOptions
from tests.harness.web import web
from tests.integration.processes import free_port
from tests.long.chaos.memory import USER, path_of, stall_reader
from tests.long.chaos.processes import (
    Process,
    answers,
    provider_settings,
    run_folder,
    service,
    service_settings,
    simulator,
    wait_until,
)
from tests.long.chaos.report import Report, console
from tests.long.chaos.seed_history import write_history
from tests.long.chaos.store_dump import after_kill
from tests.long.chaos.users import SimulatedUser, connect, poll_now, status

MAX_STOP_SECONDS = 20.0
"""Most seconds from SIGTERM to the end."""

ADA = SimulatedUser("ada", "SandboxUser1")

OPTIONS = SimulatorOptions(users=1, days_back=3, access_token_seconds=1)
"""Lifetime of tokens that expire at once, so that every poll begins with a refresh."""


def check_stop(report: Report, name: str, stopped: tuple[int, float]) -> None:
    code, seconds = stopped
    report.check(
        name,
        f"exit code {code} after {seconds:.2f} s",
        holds=code == 0 and seconds < MAX_STOP_SECONDS,
        expected=f"exit code 0 within {MAX_STOP_SECONDS:g} s",
    )


def with_nothing_going_on(report: Report, folder: Path) -> None:
    with service(folder) as served:
        served.get_ready()
        check_stop(report, "nothing going on", served.stop())


def with_a_stalled_reader(report: Report, folder: Path) -> None:
    write_history(folder / "data", USER, years=10)
    with service(folder) as served:
        served.get_ready()
        with stall_reader(served, path_of(10, "full")):
            check_stop(report, "a reader of ten years that stalls", served.stop())


def with_a_slow_call(report: Report, folder: Path) -> None:
    with connected(folder) as (served, simulated):
        poll_during(served, simulated, kind="slow", endpoint="egvs", seconds=60)
        check_stop(report, "a call to the provider that takes 60 s", served.stop())


def with_a_slow_refresh(report: Report, folder: Path) -> None:
    for seconds in (5, 10):
        with connected(folder / f"{seconds}") as (served, simulated):
            poll_during(served, simulated, kind="slow", endpoint="token", seconds=seconds)
            check_stop(report, f"a refresh that takes {seconds} s", served.stop())
            newest = web.get(f"{simulated.url}/admin/rotations").json()[-1]["new"]
            grant = after_kill(folder / f"{seconds}" / "data", [ADA.user])[ADA.user].grant
            kept = grant is not None and grant.refresh == newest and not grant.claimed
            report.check(f"the new tokens of {seconds} s", "stored" if kept else "lost", holds=kept, expected="stored")


def with_a_crash(report: Report, folder: Path) -> None:
    with simulating(folder) as simulated:
        port = free_port()
        settings = service_settings(folder, port) | provider_settings(simulated, OPTIONS)
        with Process(folder, "service", "tests.long.chaos.crash_app", port=port, **settings) as served:
            served.get_ready()
            connect(served, ADA)  # the first event triggers the bug
            code = served.ends(30)
    report.check("a crash of the runtime", f"exit code {code}", holds=code == 1, expected="exit code 1")


def with_a_store_in_use(report: Report, folder: Path) -> None:
    with service(folder) as first:
        first.get_ready()
        with service(folder) as second:
            code = second.ends(30)
    report.check("a store that another process has", f"exit code {code}", holds=code == 1, expected="exit code 1")


@contextmanager
def simulating(folder: Path) -> Iterator[Process]:
    folder.mkdir(exist_ok=True)
    simulated = simulator(folder, OPTIONS)
    with simulated:
        wait_until(lambda: answers(simulated, "/admin/state"), 30, "the simulator")
        yield simulated


@contextmanager
def connected(folder: Path) -> Iterator[tuple[Process, Process]]:
    """Serve with one connected user after the backfill."""
    with simulating(folder) as simulated, service(folder, **provider_settings(simulated, OPTIONS)) as served:
        served.get_ready()
        connect(served, ADA)
        wait_until(lambda: status(served, ADA).get("backfill_done") == 1, 30, "the backfill")
        yield served, simulated


def poll_during(served: Process, simulated: Process, **fault: Any) -> None:
    """Request a poll, and return once it has met a fault at the provider."""
    web.post(f"{simulated.url}/admin/faults", content=msgspec.json.encode(fault)).raise_for_status()
    poll_now(served, ADA)
    wait_until(
        lambda: bool(web.get(f"{simulated.url}/admin/state").json()["faults"][-1]["met"]),
        30,
        "a call to be under way",
    )


SCENARIOS: tuple[Callable[[Report, Path], None], ...] = (
    with_nothing_going_on,
    with_a_stalled_reader,
    with_a_slow_call,
    with_a_slow_refresh,
    with_a_crash,
    with_a_store_in_use,
)


@click.command()
def main() -> None:
    """Send SIGTERM during various kinds of work."""
    report = Report("Stopped with SIGTERM")
    with run_folder("drains") as folder:
        for number, part in enumerate(SCENARIOS):
            console.print(part.__name__.replace("_", " "))
            (folder / f"{number}").mkdir()
            part(report, folder / f"{number}")
        report.show()


if __name__ == "__main__":
    main()
