"""Request ten years in every format, run a backfill of 90 days, and measure the growth of the service's memory.

    python -m tests.long.chaos.memory [--years 10]

The kernel's own high-water mark of the worker is reset before each answer and read after it. An answer may let it
grow by 30 MB. One reader takes the whole answer, another one stalls: untaken data must not accumulate. A first
backfill of 90 days may take 50 MB more than the idle process. Exit code 1 beyond these limits.
"""

import socket
import time
from datetime import timedelta
from pathlib import Path

import rich_click as click

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.simulator import SimulatorOptions
from tests.harness.web import web
from tests.long.chaos.processes import (
    HOST,
    Process,
    answers,
    memory,
    provider_settings,
    run_folder,
    service,
    simulator,
    wait_until,
)
from tests.long.chaos.report import Report, console
from tests.long.chaos.seed_history import write_history
from tests.long.chaos.users import connect, make_users, status

MAX_GROWTH_BYTES, MAX_BACKFILL_BYTES = 30_000_000, 50_000_000
"""Most bytes for an answer and for a backfill."""

SIMULATOR_OPTIONS = SimulatorOptions(users=1, days_back=120)
USER = "decade"
FORMATS = {"JSON": "application/json", "CSV": "text/csv", "NDJSON": "application/x-ndjson"}


def path_of(years: int, view: str = "") -> str:
    """Return the path of a range that spans all these years."""
    now = SystemClock().now()
    start = now - timedelta(days=366 * years)
    return f"/api/bg/{USER}?from={start:%Y-%m-%dT%H:%M:%SZ}&to={now:%Y-%m-%dT%H:%M:%SZ}&view={view}"


def stall_reader(service: Process, path: str) -> socket.socket:
    """Send a request and take only the first bytes of the answer."""
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.connect((HOST, service.port))
    reader.sendall(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nAccept: application/x-ndjson\r\n\r\n".encode())
    first = reader.recv(12)
    if first != b"HTTP/1.1 200":
        raise RuntimeError(f"the range was answered with {first!r}")
    return reader


class MemoryWatch:
    """Worker with a measurement of its peak memory from a given moment."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._before = memory(pid)["VmRSS"]
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # sets VmHWM to the current size

    @property
    def growth(self) -> int:
        """Bytes between the memory at that moment and the highest since."""
        return memory(self._pid)["VmHWM"] - self._before


def read_range(service: Process, path: str, media_type: str) -> tuple[int, float]:
    """Take a whole answer without keeping it; return its bytes and seconds."""
    began = time.monotonic()
    with web.stream("GET", service.url + path, headers={"accept": media_type}, timeout=120) as answer:
        answer.raise_for_status()
        size = sum(map(len, answer.iter_raw()))
    return size, time.monotonic() - began


@click.command()
@click.option("--years", default=10, show_default=True)
def main(years: int) -> None:
    """Check that a range over many years needs bounded memory."""
    report = Report(f"Memory for a range of {years} years")
    with run_folder("memory") as folder:
        console.print("writing the history ...")
        report.figure("readings", write_history(folder / "data", USER, years=years))
        with service(folder) as served:
            served.get_ready()
            for _ in range(2):  # memory that every process takes with its first answers
                read_range(served, path_of(1, "full"), FORMATS["JSON"])
            report.figure("MB before", round(memory(served.worker)["VmRSS"] / 1e6, 1))
            for view in ("basic", "full"):
                for name, media_type in FORMATS.items():
                    watched = MemoryWatch(served.worker)
                    size, seconds = read_range(served, path_of(years, view), media_type)
                    _check_growth(report, f"{name}, {view}: {size / 1e6:.0f} MB in {seconds:.1f} s", watched)
            watched = MemoryWatch(served.worker)
            with stall_reader(served, path_of(years, "full")):
                time.sleep(5)
                _check_growth(report, "NDJSON, full, no reads for 5 s", watched)
            report.figure("MB after", round(memory(served.worker)["VmRSS"] / 1e6, 1))
        backfill(report, folder)
        report.show()


def backfill(report: Report, folder: Path) -> None:
    """Connect a user with a backfill of 90 days to a fresh process."""
    (person,) = make_users(1)
    with simulator(folder, SIMULATOR_OPTIONS) as simulated:
        wait_until(lambda: answers(simulated, "/admin/state"), 30, "the simulator")
        with service(
            folder, DATA_DIR=str(folder / "fresh"), **provider_settings(simulated, SIMULATOR_OPTIONS)
        ) as served:
            served.get_ready()
            report.figure("MB of the idle process", round(memory(served.worker)["VmRSS"] / 1e6, 1))
            watched = MemoryWatch(served.worker)
            if not connect(served, person):
                raise RuntimeError("the user could not connect")
            wait_until(lambda: status(served, person).get("backfill_done") == 1.0, 120, "the backfill")
            grown = watched.growth
            holds, expected = grown < MAX_BACKFILL_BYTES, "less than 50 MB"
            report.check(
                "90 days read, connect included", f"grew by {grown / 1e6:.1f} MB", holds=holds, expected=expected
            )


def _check_growth(report: Report, figure: str, watched: MemoryWatch) -> None:
    grown = watched.growth
    report.check(figure, f"grew by {grown / 1e6:.1f} MB", holds=grown < MAX_GROWTH_BYTES, expected="less than 30 MB")


if __name__ == "__main__":
    main()
