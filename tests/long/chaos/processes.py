"""Real processes of their own groups: started, killed and stopped like an operator does, and observed from outside."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import httpx
import msgspec

from bg_ingest.simulator import SimulatorOptions
from tests.integration.processes import free_port
from tests.long.chaos.report import console

ROOT = Path(__file__).parents[3]

HOST = "127.0.0.1"

CALLS = "calls.jsonl"
"""File of the simulator's recorded calls."""

_probe = httpx.Client(timeout=5, trust_env=False)


@contextmanager
def run_folder(name: str) -> Iterator[Path]:
    """Make a directory that is kept when the body fails or leaves with an exit code."""
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    try:
        yield folder
    except BaseException:
        console.print(f"logs and stores are kept in {folder}")
        raise
    shutil.rmtree(folder)


class TimedOut(Exception):
    """A wait timed out; the text names the awaited condition."""


class Process:
    """One of our servers with all its output in a file; it may be started again after its end."""

    def __init__(self, folder: Path, name: str, module: str, *arguments: str, port: int, **settings: str) -> None:
        """Prepare ``python -m module``; ``place`` is its directory, ``settings`` are its whole environment."""
        self.port = port
        self.url = f"http://{HOST}:{port}"
        self.said = folder / f"{name}.log"
        self._folder = folder
        self._command = [sys.executable, "-m", module, *arguments]
        self._environment = {"PYTHONPATH": str(ROOT), **settings}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.said.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,  # no .env of ours is read in that directory
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def last_words(self) -> str:
        """End of its output."""
        return self.said.read_text(errors="replace")[-4000:]

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("start it first")
        return self._process.pid

    @property
    def worker(self) -> int:
        """Process that serves; its parent only supervises it."""
        return int(Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()[0])

    def get_ready(self, seconds: float = 30) -> None:
        """Wait until it is ready; TimedOut also when it ends before."""
        what = f"{self.said.stem} to get ready, see {self.said}"
        wait_until(lambda: not self.alive or answers(self, "/health/ready"), seconds, what, every=0.01)
        if not self.alive:
            raise TimedOut(f"{self.said.stem} ended before it was ready, see {self.said}.")

    def kill(self) -> None:
        """Kill the whole group with -9, and return when none of its processes runs."""
        group = _children(self.pid)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait(10)
        wait_until(lambda: not any(map(_runs, group)), 10, "the killed worker to be gone")

    def pause(self) -> None:
        """Suspend the whole group until ``go_on``."""
        os.killpg(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.killpg(self.pid, signal.SIGCONT)

    def ends(self, within: float) -> int:
        """Wait for its end; return its exit code."""
        if self._process is None:
            raise RuntimeError("start it first")
        return self._process.wait(within)

    def stop(self, within: float = 30) -> tuple[int, float]:
        """Send SIGTERM; return its exit code and the seconds until its end."""
        asked = time.monotonic()
        os.kill(self.pid, signal.SIGTERM)
        return self.ends(within), time.monotonic() - asked

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.alive:
            self.kill()


def service(folder: Path, **settings: str) -> Process:
    """Return ``bg-ingest run`` on SQLite in the directory, with further settings."""
    port = free_port()
    return Process(folder, "service", "bg_ingest.cli", "run", port=port, **(service_settings(folder, port) | settings))


def service_settings(folder: Path, port: int) -> dict[str, str]:
    return {"HOST": HOST, "PORT": str(port), "DATA_DIR": str(folder / "data"), "LOG_FORMAT": "json"}


def simulator(folder: Path, options: SimulatorOptions) -> Process:
    """Return a standalone simulated provider, with options that its command does not have."""
    port = free_port()
    encoded = msgspec.json.encode(options).decode()
    files = str(folder / "simulator.jsonl"), str(folder / CALLS)
    return Process(folder, "simulator", "tests.long.chaos.simulated", encoded, *files, str(port), port=port)


def provider_settings(simulated: Process, options: SimulatorOptions) -> dict[str, str]:
    """Return the settings of a service that uses this simulator."""
    return {
        "DEXCOM_API_BASE_URL": simulated.url,
        "DEXCOM_CLIENT_ID": options.client_id,
        "DEXCOM_CLIENT_SECRET": options.client_secret,
    }


def answers(process: Process, path: str) -> bool:
    """Return True if the address answers at all."""
    with suppress(httpx.TransportError):
        return _probe.get(process.url + path).is_success
    return False


def wait_until(condition: Callable[[], bool], seconds: float, what: str, *, every: float = 0.05) -> None:
    """Wait for a condition, or raise TimedOut."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimedOut(f"Waited {seconds:g} s without success for {what}.")
        time.sleep(every)


def _children(parent: int) -> Sequence[int]:
    with suppress(FileNotFoundError):
        return [int(each) for each in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    return []


def _runs(pid: int) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    return False


def processor(pid: int) -> float:
    """Return the processor seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> Mapping[str, int]:
    """Return a process's memory from /proc in bytes: VmRSS now and VmHWM at its peak."""
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {parts[0][:-1]: int(parts[1]) * 1024 for parts in lines if parts and parts[0] in {"VmRSS:", "VmHWM:"}}
