"""Flood the service with clients that stop halfway and with webhooks, and see whether `latest` is still quick.

    python -m tests.chaos.flood [--seconds 20]

First a quiet run of `latest`, each time over a new connection; then the same beside 2,000 half-sent heads, 2,000
half-sent bodies, 200 readers that stop reading and webhooks at ten times the limit. Exit code 1 when the slow ones
of a hundred got more than three times as slow, or when those who stopped still hold a connection afterwards.
"""

import http.client
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from statistics import quantiles

import rich_click as click

from bg_ingest.server import READ_TIMEOUT
from tests.chaos.memory import USER, path_of, stalled
from tests.chaos.past import write_past
from tests.chaos.people import Person, connect, status
from tests.chaos.processes import HOST, Process, memory, service, until, workplace
from tests.chaos.report import Report, console
from tests.sender import SECRET

HEADS, BODIES, READERS = 2_000, 2_000, 200
EVERY = 0.05
"""Seconds between two questions for `latest`."""

LIMIT, TIMES = 50, 10
"""Webhooks a second: what a replica takes, and how many times as many are sent."""

MOST_TIMES_SLOWER = 3

HALF_HEAD = b"GET /api/bg/ada/latest HTTP/1.1\r\nHost: localhost\r\nX-Half: "
HALF_BODY = b"""PATCH /api/users/ada/connections/dexcom/worker HTTP/1.1\r
Host: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"paused":"""

ADA = Person("ada", "SandboxUser1")


class Asked:
    """How long `latest` took, and what it was answered."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.statuses: Counter[str] = Counter()

    @property
    def slow(self) -> float:
        """Milliseconds within which 99 of 100 were answered."""
        return quantiles(self.seconds, n=100)[98] * 1e3


def ask(served: Process, seconds: float) -> Asked:
    """Ask at a steady rate, whatever the answers take; one that is late does not move those after it."""
    asked, began = Asked(), time.monotonic()
    for number in range(int(seconds / EVERY)):
        due = began + number * EVERY
        time.sleep(max(0.0, due - time.monotonic()))
        asked.statuses[latest(served)] += 1
        asked.seconds.append(time.monotonic() - due)
    return asked


def latest(served: Process) -> str:
    """Ask once, over a connection of its own."""
    connection = http.client.HTTPConnection(HOST, served.port, timeout=30)
    try:
        connection.request("GET", f"/api/bg/{ADA.user}/latest")
        answer = connection.getresponse()
        answer.read()
        return str(answer.status)
    except OSError as error:
        return type(error).__name__
    finally:
        connection.close()


@contextmanager
def half_sent(served: Process, count: int, what: bytes) -> Iterator[list[socket.socket]]:
    """Open so many connections that send this and nothing more."""
    with ExitStack() as opened:
        connections = []
        for _ in range(count):
            each = opened.enter_context(socket.create_connection((HOST, served.port), 30))
            each.sendall(what)
            connections.append(each)
        yield connections


@contextmanager
def flooded_by_webhooks(served: Process, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """Send webhooks from a process of its own: what it takes to make them is not the service's."""
    sender = [sys.executable, "-m", "tests.chaos.webhook_flood", str(served.port), str(LIMIT * TIMES), str(seconds)]
    with subprocess.Popen(sender, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.wait(60)


def ended(connections: list[socket.socket]) -> int:
    """Return how many the service has ended."""
    count = 0
    for each in connections:
        each.settimeout(0.001)
        try:
            while each.recv(4096):
                pass
            count += 1
        except TimeoutError:
            pass
        except OSError:
            count += 1
    return count


def flood(served: Process, report: Report, seconds: float) -> Asked:
    with (
        half_sent(served, HEADS, HALF_HEAD) as heads,
        half_sent(served, BODIES, HALF_BODY) as bodies,
        ExitStack() as readers,
        flooded_by_webhooks(served, seconds) as webhooks,
    ):
        stopped = [readers.enter_context(stalled(served, path_of(2, "full"))) for _ in range(READERS)]
        asked = ask(served, seconds)
        report.figure("MB in the flood", round(memory(served.worker)["VmRSS"] / 1e6))
        time.sleep(max(0.0, READ_TIMEOUT / 1e3 + 5 - seconds))
        for name, connections in {"heads": heads, "bodies": bodies, "readers": stopped}.items():
            count = ended(connections)
            report.check(f"half-sent {name} ended", count, holds=count == len(connections), wanted="all")
        told = webhooks.communicate()[0].strip()
        report.check(
            "webhooks answered",
            told,
            holds="'202'" in told and ("'429'" in told or "'503'" in told),
            wanted="some 202, others told to wait",
        )
    return asked


@click.command()
@click.option("--seconds", default=20.0, show_default=True, help="Of the quiet run, and of the flood.")
def main(seconds: float) -> None:
    """Flood the service, and see whether reads notice."""
    report = Report(
        f"A flood of {HEADS} heads, {BODIES} bodies, {READERS} readers and {LIMIT * TIMES} webhooks a second"
    )
    with workplace("flood") as place:
        write_past(place / "data", USER, years=2)
        limits = {"WEBHOOK_SIGNING_SECRETS": SECRET, "WEBHOOKS_PER_SECOND": str(LIMIT), "BACKFILL_DAYS": "1"}
        with service(place, **limits) as served:
            served.get_ready()
            if not connect(served, ADA):
                raise SystemExit("Ada could not be connected.")
            until(lambda: status(served, ADA).get("backfill_done") == 1, 60, "the past of Ada")
            quiet = ask(served, seconds)
            console.print(f"quiet: {quiet.slow:.1f} ms, {dict(quiet.statuses)}")
            loud = flood(served, report, seconds)
            report.figure("latest, quiet: 99 % within", f"{quiet.slow:.1f} ms")
            bound = MOST_TIMES_SLOWER * quiet.slow
            report.check(
                "latest in the flood: 99 % within",
                f"{loud.slow:.1f} ms",
                holds=loud.slow <= bound,
                wanted=f"{bound:.1f} ms at most",
            )
            report.check("answered", dict(loud.statuses), holds=set(loud.statuses) == {"200"}, wanted="200 only")
        report.show()


if __name__ == "__main__":
    main()
