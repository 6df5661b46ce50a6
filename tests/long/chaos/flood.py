"""Flood the service with clients that stop halfway and with webhooks, and measure the latency of `latest`.

    python -m tests.long.chaos.flood [--seconds 20]

First a quiet run of `latest`, each time over a new connection; then the same beside 2,000 half-sent heads, 2,000
half-sent bodies, 200 readers that stop reading and webhooks at ten times the limit. Exit code 1 when the 99th
percentile more than tripled, or when stopped clients still hold a connection afterwards.
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

from bg_ingest.server import READ_TIMEOUT_MS
from tests.harness.webhook_sender import SECRET
from tests.long.chaos.memory import USER, path_of, stall_reader
from tests.long.chaos.processes import HOST, Process, memory, run_folder, service, wait_until
from tests.long.chaos.report import Report, console
from tests.long.chaos.seed_history import write_history
from tests.long.chaos.users import SimulatedUser, connect, status

HEADS, BODIES, READERS = 2_000, 2_000, 200
INTERVAL_SECONDS = 0.05
"""Seconds between two requests for `latest`."""

LIMIT, OVERLOAD_FACTOR = 50, 10
"""Webhooks a second that a replica accepts, and the multiple that is sent."""

MAX_SLOWDOWN = 3

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
def measure_under_webhooks(served: Process, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """Send webhooks from a process of its own, because the work of making them is not the service's."""
    sender = [
        sys.executable,
        "-m",
        "tests.long.chaos.webhook_flood",
        str(served.port),
        str(LIMIT * OVERLOAD_FACTOR),
        str(seconds),
    ]
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


@click.command()
@click.option("--seconds", default=20.0, show_default=True, help="Seconds of the quiet run, and of the flood.")
def main(seconds: float) -> None:
    """Flood the service, and compare the latency of reads."""
    report = Report(
        f"A flood of {HEADS} heads, {BODIES} bodies, {READERS} readers and {LIMIT * OVERLOAD_FACTOR} webhooks a second"
    )
    with run_folder("flood") as folder:
        write_history(folder / "data", USER, years=2)
        limits = {"WEBHOOK_SIGNING_SECRETS": SECRET, "WEBHOOKS_PER_SECOND": str(LIMIT), "BACKFILL_DAYS": "1"}
        with service(folder, **limits) as served:
            served.get_ready()
            if not connect(served, ADA):
                raise SystemExit("Ada could not be connected.")
            wait_until(lambda: status(served, ADA).get("backfill_done") == 1, 60, "the backfill of Ada")
            quiet = measure_latency(served, seconds)
            console.print(f"quiet: {quiet.slow:.1f} ms, {dict(quiet.statuses)}")
            loud = flood(served, report, seconds)
            report.figure("latest, quiet: 99 % within", f"{quiet.slow:.1f} ms")
            bound = MAX_SLOWDOWN * quiet.slow
            report.check(
                "latest in the flood: 99 % within",
                f"{loud.slow:.1f} ms",
                holds=loud.slow <= bound,
                expected=f"{bound:.1f} ms at most",
            )
            report.check("answered", dict(loud.statuses), holds=set(loud.statuses) == {"200"}, expected="200 only")
        report.show()


if __name__ == "__main__":
    main()
