"""Take the broker, the store and the provider away, one after the other, while polls, webhooks and reads go on.

    python -m tests.long.chaos.outages [--seed N] [--seconds 20]

Each is stopped and started again, and answers errors for a while. Exit code 1 on any loss, without recovery, at a
refusal of a request that could be served, or with more than one log line per failure and one per recovery.
"""

import random
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import rich_click as click

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.adapters.memory import Event
from bg_ingest.simulator import SimulatorOptions
from bg_ingest.simulator.data import user_id
from tests.harness.web import NO_CERTIFICATES, web
from tests.integration.processes import free_port
from tests.long.chaos.checks import check_events
from tests.long.chaos.consumer import check_polled, check_pushed, check_series, get_readings, write_event_file
from tests.long.chaos.gate import Gate, open_gate
from tests.long.chaos.kills import DELAY, VISIBLE_AFTER
from tests.long.chaos.log_transitions import check_transitions, follow, read_log
from tests.long.chaos.processes import Process, TimedOut, answers, provider_settings, run_folder, wait_until
from tests.long.chaos.pushing import PUSH_OFFSET, Sender
from tests.long.chaos.real_parts import RealParts, check_outbox_ends, real_parts
from tests.long.chaos.report import Report, console
from tests.long.chaos.users import SimulatedUser, connect, make_users, poll_now, status

RECOVERY_SECONDS = 75.0
"""Seconds until all works again: events refused by the broker are published again after a minute."""


class LatestReader:
    """Reader of every user's latest reading, twice a second, that records the answers by phase of the run."""

    def __init__(self, service: Process, people: Sequence[SimulatedUser]) -> None:
        self.phase = "calm"
        self.answers: dict[str, Counter[str]] = defaultdict(Counter)
        self.slowest: dict[str, float] = defaultdict(float)
        self._service = service
        self._users = people
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(30)

    def _read(self) -> None:
        with httpx.Client(timeout=30, verify=NO_CERTIFICATES, trust_env=False) as client:
            while not self._stopped.wait(0.5):
                phase, began = self.phase, time.monotonic()
                person = random.choice(self._users)
                try:
                    answer = client.get(f"{self._service.url}/api/bg/{person.user}/latest")
                    detail = (
                        "" if answer.status_code != 503 or "retry-after" in answer.headers else " without Retry-After"
                    )
                    said = f"{answer.status_code}{detail}"
                except httpx.TransportError:
                    said = "none"
                self.answers[phase][said] += 1
                self.slowest[phase] = max(self.slowest[phase], time.monotonic() - began)


class OutageRun:
    """The service, its dependencies, and the concurrent load."""

    def __init__(self, folder: Path, parts: RealParts, gate: Gate, *, seed: int, people: int) -> None:
        options = SimulatorOptions(seed=seed)
        port = free_port()
        journal = str(folder / "simulator.jsonl")
        asked = ["--port", str(port), "--seed", str(seed), "--cadence", "1", "--delay", str(DELAY)]
        asked += ["--journal", journal]
        self.parts, self.gate = parts, gate
        self.simulated = Process(folder, "simulator", "bg_ingest.cli", "simulator", *asked, port=port)
        settings = provider_settings(self.simulated, options) | {"BACKFILL_DAYS": "2", "POLL_INTERVAL_SECONDS": "60"}
        self.service = parts.service(gate.port, **settings)
        self.people = make_users(people)
        accounts = {each: user_id(seed, options.client_id, each.login) for each in self.people}
        self.sender = Sender(self.service, accounts, seed=seed, every=1.5)
        self.reader = LatestReader(self.service, self.people)
        self.events: list[Event] = []

    @contextmanager
    def outage(self, what: str, report: Report) -> Iterator[None]:
        """Record the log lines from now until all works again."""
        before = len(read_log(self.service.said))
        self.reader.phase = what
        console.print(what)
        yield
        began = time.monotonic()
        try:
            wait_until(lambda: self._works(before), RECOVERY_SECONDS, f"recovery after: {what}", every=0.2)
        except TimedOut as waited:
            report.wrong(str(waited))
        self.reader.phase = "calm"
        lines = Counter(line.action for line in read_log(self.service.said)[before:])
        report.figure(what, f"{dict(lines)}; worked again after {time.monotonic() - began:.0f} s")

    def _works(self, before: int) -> bool:
        """True if all failures since then have recovered, nothing is degraded, and the newest webhooks are accepted."""
        if follow(read_log(self.service.said)[before:]).unrecovered:
            return False
        ready: object = web.get(f"{self.service.url}/health/ready").json()
        return ready == {"status": "ready"}

    def fault(self, **fault: object) -> None:
        web.post(f"{self.simulated.url}/admin/faults", json=fault).raise_for_status()


def broker_outages(run: OutageRun, report: Report, seconds: float) -> None:
    node = run.parts.node
    with run.outage("broker stopped", report):
        node.server.stop()
        time.sleep(seconds)
        node.server.start()
    run.events += run.parts.events()
    with run.outage("broker refuses events", report):
        node.limit_queues("chaos", most=1)
        time.sleep(seconds)
        node.api.delete("/policies/chaos/limit").raise_for_status()


def provider_outages(run: OutageRun, report: Report, seconds: float) -> None:
    with run.outage("provider killed", report):
        run.simulated.kill()
        for each in run.people:
            poll_now(run.service, each)
        time.sleep(seconds)
        run.simulated.start()
        wait_until(lambda: answers(run.simulated, "/admin/state"), 20, "the simulator")
    with run.outage("provider answers 503", report):
        run.fault(kind="failed", status=503)
        for each in run.people:
            poll_now(run.service, each)
        time.sleep(seconds)
        web.delete(f"{run.simulated.url}/admin/faults").raise_for_status()


def store_outages(run: OutageRun, report: Report, seconds: float) -> None:
    with run.outage("store stopped", report):
        run.gate.switch("breaking")  # ministack loses writes that arrive while it stops
        time.sleep(1)
        run.parts.dynamodb.stop(signal.SIGTERM)
        time.sleep(seconds)
        run.parts.dynamodb.start()
        run.gate.switch("open")
    with run.outage("store silent", report):
        run.gate.switch("silent")
        time.sleep(seconds)
        run.gate.switch("open")
    with run.outage("store answers 500", report):
        run.gate.switch("failing")
        time.sleep(seconds)
        run.gate.switch("open")


@click.command()
@click.option("--seed", type=int, default=None, help="Seed of users and readings; drawn when not given.")
@click.option("--people", default=6, show_default=True)
@click.option("--seconds", default=20.0, show_default=True, help="Seconds of each outage.")
def main(seed: int | None, people: int, seconds: float) -> None:
    """Stop each dependency for a while; compare the stored and published data with the truth."""
    seed = random.randrange(1_000_000) if seed is None else seed
    console.print(f"seed {seed}, {people} users, {seconds:g} s each")
    began = time.monotonic()
    report = Report(f"Outages of the real parts (seed {seed})")
    with run_folder("outages") as folder:
        with real_parts(folder) as parts, open_gate(parts.dynamodb.port) as gate:
            run = OutageRun(folder, parts, gate, seed=seed, people=people)
            with run.simulated, run.service:
                go_through(run, report, seconds)
                check_run(report, run, folder)
        report.figure("minutes", round((time.monotonic() - began) / 60, 1))
        report.show()


def go_through(run: OutageRun, report: Report, seconds: float) -> None:
    wait_until(lambda: answers(run.simulated, "/admin/state"), 30, "the simulator")
    run.service.get_ready()
    for each in run.people:
        connect(run.service, each)
    wait_until(lambda: all(status(run.service, each)["backfill_done"] == 1 for each in run.people), 60, "the backfill")
    run.sender.start(lambda: run.people)
    run.reader.start()
    broker_outages(run, report, seconds)
    provider_outages(run, report, seconds)
    store_outages(run, report, seconds)


def check_run(report: Report, run: OutageRun, folder: Path) -> None:
    unanswered = run.sender.finish(60)
    run.reader.stop()
    now = SystemClock().now().replace(microsecond=0)
    end = now - VISIBLE_AFTER
    for each in run.people:
        poll_now(run.service, each)
    time.sleep(10)  # a poll takes moments, and so does publishing
    report.check("webhooks without a 202 at the end", unanswered, holds=not unanswered, expected="0")
    again = sum(each.attempts > 1 for each in run.sender.accepted)
    report.figure("webhooks; sent more than once", f"{len(run.sender.accepted):,}; {again:,}")
    report.figure("answers to webhooks", dict(run.sender.answers))
    odd = len(run.sender.odd)
    report.check("webhooks answered otherwise than 202 or 503", odd, holds=not odd, expected="0")
    report.figure("slowest webhook, s", round(run.sender.slowest, 1))
    check_reads(report, run.reader)
    check_polled(
        report,
        run.service,
        run.simulated,
        run.people,
        (now - timedelta(days=1), end),
    )
    check_pushed(report, run.service, run.sender.readings, run.sender.since, now - PUSH_OFFSET / 2)
    shown = {each: get_readings(run.service, each) for each in run.people}
    code, _ = run.service.stop()
    report.check("exit code at the end", code, holds=code == 0, expected="0")
    run.events += run.parts.events()
    check_events(
        report, write_event_file(run.events, folder / "told"), check_outbox_ends(report, run.parts, run.people)
    )
    check_series(report, run.events, shown)
    check_transitions(report, read_log(run.service.said))


def check_reads(report: Report, reader: LatestReader) -> None:
    for phase, counts in reader.answers.items():
        may = {"200", "503"} if phase.startswith("store") else {"200"}
        name = f"reads: {phase} (slowest {reader.slowest[phase]:.1f} s)"
        report.check(name, dict(counts), holds=counts.keys() <= may, expected=" or ".join(sorted(may)))


if __name__ == "__main__":
    main()
