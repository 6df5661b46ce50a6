"""Real processes whose output cannot be written: they work on, and end with the exit code of their end."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.harness.cli import COMMAND, environment
from tests.harness.web import web
from tests.integration.processes import free_port

Output = Callable[[], int]


def ended_reader() -> int:
    """Return the end of a pipe as in ``bg-ingest run 2>&1 | true``."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def full_disk() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def gone_terminal() -> int:
    near, far = os.openpty()
    os.close(near)
    return far


class Unheard:
    """Server whose output and errors go to a given descriptor."""

    def __init__(self, folder: Path, output: int, *arguments: str) -> None:
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self.process = subprocess.Popen(
            [*COMMAND, *arguments, "--port", str(port)],
            cwd=folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        os.close(output)

    def status(self, path: str) -> int:
        try:
            return web.get(f"{self.url}{path}", timeout=5).status_code
        except httpx.TransportError:
            return 0

    def wait_ready(self) -> None:
        deadline = time.monotonic() + 20
        while self.status("/health/ready") != 200:
            assert self.process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def end(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@pytest.fixture
def unheard(tmp_path: Path) -> Iterator[Callable[..., Unheard]]:
    started: list[Unheard] = []

    def start(output: int, *arguments: str) -> Unheard:
        started.append(Unheard(tmp_path, output, *arguments))
        return started[-1]

    yield start
    for server in started:
        server.end()


@pytest.mark.parametrize("output", [ended_reader, full_disk, gone_terminal])
def test_f1_a_service_without_a_log_answers_and_ends_with_zero(output: Output, unheard: Callable[..., Unheard]) -> None:
    server = unheard(output(), "run")
    server.wait_ready()
    assert server.status("/api/bg/ada/latest") == 404
    metrics = web.get(f"{server.url}/metrics").text
    (dropped,) = [line for line in metrics.splitlines() if line.startswith("bg_ingest_log_lines_dropped_total")]
    assert float(dropped.split()[1]) > 0
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(20) == 0
