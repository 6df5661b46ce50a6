"""Kill the service with -9 at random moments during backfills, and check for missing data afterwards.

    python -m tests.long.chaos.kills [--seed N] [--kills 20] [--people 32]

The service and the simulated provider are processes of their own; users connect by HTTP through the OAuth flow,
before, during and after kills. Access tokens live 90 seconds, so that nearly every poll begins with a refresh. Exit
code 1 on any difference.
"""

import random
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import rich_click as click

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.simulator import SimulatorOptions
from tests.harness.web import web
from tests.integration.processes import free_port
from tests.long.chaos.checks import Kill, check_events, check_grants, check_readings, check_store, truth
from tests.long.chaos.processes import (
    Process,
    TimedOut,
    answers,
    provider_settings,
    run_folder,
    service_settings,
    simulator,
    wait_until,
)
from tests.long.chaos.report import Report, console
from tests.long.chaos.store_dump import StoredUser, after_kill
from tests.long.chaos.users import SimulatedUser, connect, make_users, poll_now, status

DAYS = 90

MAX_LIFE_SECONDS = 6.0
"""Most seconds between ready and kill: the first polls and backfills of a life begin within them."""

START_KILL_SHARE = 0.15
"""Share of kills before the service is ready."""

NEW_PEOPLE = 2
"""Most users who connect in each life, so that there is always a pending backfill."""

SLOW_CALLS = {"egvs": 0.5, "token": 0.3}
"""Seconds of each provider call: about as long as at the real provider, and long enough for a kill in it."""

SETTLE_SECONDS = 420
"""Seconds of the last life: a dead process's claim on a grant holds for a minute, then all backfills must end."""


CATCH_UP_SECONDS = 150
"""Seconds for the newest readings: a dead process's claim may be found only now."""

DELAY = 3600
"""Seconds until a reading is shown: Dexcom's own delay in this region, which the service expects."""

VISIBLE_AFTER = timedelta(seconds=DELAY + 60)
"""Age of readings that are certainly shown, even if a clock is a little off."""


class KillRun:
    """One service, one simulator, and their users."""

    def __init__(self, folder: Path, *, seed: int, people: int) -> None:
        options = SimulatorOptions(
            seed=seed, users=people, days_back=DAYS, delay_seconds=DELAY, access_token_seconds=90
        )
        self.chance = random.Random(seed)
        self.data = folder / "data"
        self.event_file = folder / "told"
        self.simulated = simulator(folder, options)
        port = free_port()
        settings = service_settings(folder, port) | provider_settings(self.simulated, options)
        self.service = Process(
            folder,
            "service",
            "tests.long.chaos.event_file_app",
            str(self.event_file),
            port=port,
            **settings,
            BACKFILL_DAYS=str(DAYS + 1),
            POLL_INTERVAL_SECONDS="300",
        )
        self.people = make_users(people)
        self.connected: list[SimulatedUser] = []
        self.kills: list[Kill] = []
        self.reconnected: dict[str, datetime] = {}

    @property
    def strangers(self) -> Sequence[SimulatedUser]:
        return [each for each in self.people if each not in self.connected]

    @property
    def in_backfill(self) -> int:
        """Number of kills during a backfill. A kill may come before any user has connected."""
        return sum(backfill_pending(each.remaining.values()) > 0 for each in self.kills)

    def live_and_die(self) -> None:
        """Start the service, let new users connect, and kill it at a random moment."""
        self.service.start()
        while_starting = bool(self.connected) and self.chance.random() < START_KILL_SHARE
        if not while_starting:
            self.service.get_ready()
        instant = self.chance.uniform(0.1, 1.5 if while_starting else MAX_LIFE_SECONDS)
        killer = threading.Timer(instant, self.service.kill)
        killer.start()
        for person in [] if while_starting else self.strangers[: self.chance.randint(1, NEW_PEOPLE)]:
            if self.service.alive and connect(self.service, person):
                self.connected.append(person)
        killer.join()
        now = SystemClock().now()
        self.kills.append(Kill(now, after_kill(self.data, [each.user for each in self.people])))
        self._log_kill(while_starting, instant)

    def _log_kill(self, while_starting: bool, instant: float) -> None:  # noqa: FBT001 - passed by name
        left = self.kills[-1].remaining
        console.print(
            f"kill {len(self.kills):3} {'starting' if while_starting else 'running '} {instant:4.1f} s: "
            f"{len(self.connected):3} users connected, {backfill_pending(left.values()):3} backfills pending, "
            f"{sum(bool(each.grant and each.grant.claimed) for each in left.values()):2} refreshes under way, "
            f"{sum(each.last_change for each in left.values()):,} changes"
        )

    def settle(self) -> None:
        """Connect all users, complete the backfills, and reconnect users with a lost grant."""
        self.service.get_ready()
        deadline = time.monotonic() + SETTLE_SECONDS
        while waiting := [each for each in self.people if not self._is_complete(each)]:
            if time.monotonic() > deadline:
                break
            console.print(f"the backfills of {len(waiting)} users are pending")
            time.sleep(5)

    def _is_complete(self, person: SimulatedUser) -> bool:
        shown = status(self.service, person)
        lost = shown.get("last_outcome") == "refused"
        if lost:
            self.reconnected[person.user] = SystemClock().now()
        if lost or "backfill_done" not in shown or shown["state"] != "active":
            connect(self.service, person)
            return False
        return bool(shown["backfill_done"] == 1)

    def catch_up(self, end: datetime) -> None:
        """Request polls of all users until the newest reading before ``end``, which is shown already, is stored."""
        newest = {each: truth(self.simulated, each, end)[-1].timestamp for each in self.people}
        for person in self.people:
            poll_now(self.service, person)

        def is_read(person: SimulatedUser) -> bool:
            return datetime.fromisoformat(status(self.service, person)["newest_reading_at"]) >= newest[person]

        with suppress(TimedOut):  # the comparison then reports the missing readings
            wait_until(lambda: all(map(is_read, self.people)), CATCH_UP_SECONDS, "the newest readings", every=0.5)


def backfill_pending(stored: Iterable[StoredUser]) -> int:
    return sum(each.connection.backfill is not None for each in stored)


@contextmanager
def open_run(folder: Path, *, seed: int, people: int) -> Iterator[KillRun]:
    """Run both servers in a directory."""
    run = KillRun(folder, seed=seed, people=people)
    with run.simulated:
        wait_until(lambda: answers(run.simulated, "/admin/state"), 30, "the simulator")
        for endpoint, seconds in SLOW_CALLS.items():
            fault = {"kind": "slow", "endpoint": endpoint, "seconds": seconds}
            web.post(f"{run.simulated.url}/admin/faults", json=fault).raise_for_status()
        try:
            yield run
        finally:
            if run.service.alive:
                run.service.kill()


@click.command()
@click.option("--seed", type=int, default=None, help="Seed of users, readings and moments; drawn when not given.")
@click.option("--kills", default=20, show_default=True)
@click.option("--people", default=32, show_default=True)
def main(seed: int | None, kills: int, people: int) -> None:
    """Kill the service again and again; compare its stored and published data with the truth."""
    seed = random.randrange(1_000_000) if seed is None else seed
    console.print(f"seed {seed}, {kills} kills, {people} users, {DAYS} days each")
    began = time.monotonic()
    report = Report(f"Killed with -9 during backfills (seed {seed})")
    with run_folder("kills") as folder:
        with open_run(folder, seed=seed, people=people) as run:
            while run.in_backfill < kills and len(run.kills) < 2 * kills:
                run.live_and_die()
            run.service.start()
            run.settle()
            end = SystemClock().now().replace(microsecond=0) - VISIBLE_AFTER
            run.catch_up(end)
            check_readings(report, run.service, run.simulated, run.people, end)
            report.figure("kills", len(run.kills))
            report.check("during a backfill", run.in_backfill, holds=run.in_backfill == kills, expected=f"{kills}")
            check_end(report, run)
        report.figure("minutes", round((time.monotonic() - began) / 60, 1))
        report.show()


def check_end(report: Report, run: KillRun) -> None:
    """Stop the service and check the stored data."""
    code, seconds = run.service.stop()
    report.check("exit code at the end", code, holds=code == 0, expected="0")
    report.figure("seconds of the drain at the end", round(seconds, 1))
    check_events(report, run.event_file, check_store(report, run.data, run.people))
    rotations = msgspec.json.decode(web.get(f"{run.simulated.url}/admin/rotations").content)
    left = after_kill(run.data, [each.user for each in run.people])
    check_grants(report, rotations, run.kills, left, run.reconnected)


if __name__ == "__main__":
    main()
