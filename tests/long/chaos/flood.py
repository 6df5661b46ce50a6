"""Flood the service in several ways, and measure the latency of another caller's `latest` during each.

    python -m tests.long.chaos.flood [--seconds 20]

First a quiet run of `latest`, each time over a new connection; then the same beside 2,000 half-sent heads, 2,000
half-sent bodies, stalled readers and webhooks at ten times the limit; then beside each kind of `hostile_clients`. Exit
code 1 when a 99th percentile more than tripled, a stopped client still holds a connection, a shard was lost, or the
memory has not returned to within 30 MB.
"""

import http.client
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from statistics import median, quantiles

import rich_click as click

from bg_ingest.api.fairness import MAX_LONG_ANSWERS
from bg_ingest.domain.ids import SHARDS
from bg_ingest.server import READ_TIMEOUT_MS
from tests.harness.web import web
from tests.harness.webhook_sender import SECRET
from tests.long.chaos.memory import USER, path_of, read_range, stall_reader
from tests.long.chaos.processes import HOST, Process, memory, run_folder, service, wait_until
from tests.long.chaos.report import Report
from tests.long.chaos.seed_history import write_history
from tests.long.chaos.users import SimulatedUser, connect, status

HEADS, BODIES, READERS = 2_000, 2_000, MAX_LONG_ANSWERS
INTERVAL_SECONDS = 0.05
"""Seconds between two requests for `latest`."""

LIMIT, OVERLOAD_FACTOR = 50, 10
"""Webhooks a second that a replica accepts, and the multiple that is sent."""

MAX_SLOWDOWN = 3
MAX_GROWTH_MB = 30
SIGNED_PER_SECOND = 20
"""Signed webhooks a second beside slow bodies, within the limit."""

STALLED = "stalled"
HOSTILE = ("open-routes", "heads", "long-answers", "slow-bodies")
"""Kinds of clients: those of this module, and those of `hostile_clients`."""

GENERATOR = ("chrt", "--idle", "0", sys.executable, "-m")
"""Command of a load generator. The priority of the service and of the measurement is higher, because in operation the
attackers have processors of their own."""

SETTLE_SECONDS = 5.0
"""Pause before each kind, in which the service notices that the clients before it have gone."""

HALF_HEAD = b"GET /api/bg/ada/latest HTTP/1.1\r\nHost: localhost\r\nX-Half: "
HALF_BODY = b"""PATCH /api/users/ada/connections/dexcom/worker HTTP/1.1\r
Host: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"paused":"""

ADA = SimulatedUser("ada", "SandboxUser1")


class LatencySamples:
    """Latencies of `latest`, and the statuses of its answers."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.statuses: Counter[str] = Counter()

    @property
    def slow(self) -> float:
        """99th percentile of the latency in milliseconds."""
        return quantiles(self.seconds, n=100)[98] * 1e3

    @property
    def text(self) -> str:
        return f"{self.slow:.1f} ms; {median(self.seconds) * 1e3:.1f} ms"


def measure_latency(served: Process, seconds: float) -> LatencySamples:
    """Send requests at a steady rate; a late answer does not delay the following requests."""
    asked, began = LatencySamples(), time.monotonic()
    for number in range(int(seconds / INTERVAL_SECONDS)):
        due = began + number * INTERVAL_SECONDS
        time.sleep(max(0.0, due - time.monotonic()))
        asked.statuses[latest(served)] += 1
        asked.seconds.append(time.monotonic() - due)
    return asked


def latest(served: Process) -> str:
    """Send one request over a connection of its own."""
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
def send_half(served: Process, count: int, data: bytes) -> Iterator[list[socket.socket]]:
    """Open ``count`` connections that send only these bytes."""
    with ExitStack() as opened:
        connections = []
        for _ in range(count):
            each = opened.enter_context(socket.create_connection((HOST, served.port), 30))
            each.sendall(data)
            connections.append(each)
        yield connections


@contextmanager
def measure_under_webhooks(
    served: Process, seconds: float, rate: int = LIMIT * OVERLOAD_FACTOR
) -> Iterator[subprocess.Popen[str]]:
    """Send webhooks from a process of its own, because the work of making them is not the service's."""
    sender = [*GENERATOR, "tests.long.chaos.webhook_flood", str(served.port), str(rate), str(seconds)]
    with subprocess.Popen(sender, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.wait(60)


def count_ended(connections: list[socket.socket]) -> int:
    """Return the number of connections closed by the service."""
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


def flood(served: Process, report: Report, seconds: float) -> LatencySamples:
    with (
        send_half(served, HEADS, HALF_HEAD) as heads,
        send_half(served, BODIES, HALF_BODY) as bodies,
        ExitStack() as readers,
        measure_under_webhooks(served, seconds) as webhooks,
    ):
        stopped = [readers.enter_context(stall_reader(served, path_of(2, "full"))) for _ in range(READERS)]
        asked = measure_latency(served, seconds)
        report.figure("MB in the flood", round(memory(served.worker)["VmRSS"] / 1e6))
        time.sleep(max(0.0, READ_TIMEOUT_MS / 1e3 + 5 - seconds))
        for name, connections in {"heads": heads, "bodies": bodies, "readers": stopped}.items():
            count = count_ended(connections)
            report.check(f"half-sent {name} ended", count, holds=count == len(connections), expected="all")
        output = webhooks.communicate()[0].strip()
        report.check(
            "webhooks answered",
            output,
            holds="'202'" in output and ("'429'" in output or "'503'" in output),
            expected="some 202, others 429 or 503",
        )
    return asked


def flood_by_hostile_clients(served: Process, report: Report, kind: str, seconds: float) -> LatencySamples:
    """Measure beside clients of one kind, which run in a process of their own."""
    time.sleep(SETTLE_SECONDS)
    clients = [*GENERATOR, "tests.long.chaos.hostile_clients", kind, str(served.port), str(seconds + 2)]
    with subprocess.Popen(clients, stdout=subprocess.PIPE, text=True) as process, ExitStack() as beside:
        time.sleep(1)
        signed = kind == "slow-bodies"
        webhooks = beside.enter_context(measure_under_webhooks(served, seconds, SIGNED_PER_SECOND)) if signed else None
        asked = measure_latency(served, seconds)
        report.figure(f"{kind}: MB", round(memory(served.worker)["VmRSS"] / 1e6))
        if webhooks:
            output = webhooks.communicate()[0].strip()
            holds = "'202'" in output and "'503'" not in output
            report.check("signed webhooks beside slow bodies", output, holds=holds, expected="no 503")
        report.figure(f"{kind}: answers", process.communicate()[0].strip())
    return asked


def check_latency(report: Report, name: str, quiet: LatencySamples, loud: LatencySamples) -> None:
    bound = MAX_SLOWDOWN * quiet.slow
    report.check(
        f"latest beside {name}: 99 % within; median",
        loud.text,
        holds=loud.slow <= bound,
        expected=f"{bound:.1f} ms at most",
    )
    statuses = dict(loud.statuses)
    report.check(f"latest beside {name}: answers", statuses, holds=set(statuses) == {"200"}, expected="200 only")


def check_return(report: Report, served: Process, before: int) -> None:
    """Check that the service has its shards and, some seconds after the floods, its former memory."""
    time.sleep(READ_TIMEOUT_MS / 1e3 + 5)
    growth = round((memory(served.worker)["VmRSS"] - before) / 1e6)
    report.check("MB more than before", growth, holds=growth <= MAX_GROWTH_MB, expected=f"{MAX_GROWTH_MB} at most")
    owned = web.get(f"{served.url}/api/workers").json()["shards"]["owned"]
    lost = served.said.read_text(errors="replace").count("shards_lost")
    report.check("shards; times lost", f"{owned}; {lost}", holds=(owned, lost) == (SHARDS, 0), expected="all; never")


@click.command()
@click.option("--seconds", default=20.0, show_default=True, help="Seconds of the quiet run, and of each flood.")
@click.option("--only", type=click.Choice((STALLED, *HOSTILE)), multiple=True, help="Run only these kinds of clients.")
def main(seconds: float, only: tuple[str, ...]) -> None:
    """Flood the service, and compare the latency of reads."""
    report = Report("Floods")
    with run_folder("flood") as folder:
        write_history(folder / "data", USER, years=2)
        limits = {"WEBHOOK_SIGNING_SECRETS": SECRET, "WEBHOOKS_PER_SECOND": str(LIMIT), "BACKFILL_DAYS": "1"}
        with service(folder, **limits) as served:
            served.get_ready()
            if not connect(served, ADA):
                raise SystemExit("Ada could not be connected.")
            wait_until(lambda: status(served, ADA).get("backfill_done") == 1, 60, "the backfill of Ada")
            read_range(served, path_of(1, "full"), "application/json")  # memory that every process takes
            quiet, before = measure_latency(served, seconds), memory(served.worker)["VmRSS"]
            report.figure(
                "latest, quiet: 99 % within; median", f"{quiet.slow:.1f} ms; {median(quiet.seconds) * 1e3:.1f} ms"
            )
            report.figure("MB before", round(before / 1e6))
            if not only or STALLED in only:
                name = f"{HEADS} heads, {BODIES} bodies, {READERS} readers, {LIMIT * OVERLOAD_FACTOR} webhooks a second"
                check_latency(report, name, quiet, flood(served, report, seconds))
            for kind in [kind for kind in HOSTILE if not only or kind in only]:
                check_latency(report, kind, quiet, flood_by_hostile_clients(served, report, kind, seconds))
            check_return(report, served, before)
        report.show()


if __name__ == "__main__":
    main()
