"""Commands as run by a terminal, each in a process of its own.

Loading the service takes a second of CPU time, and the suite runs a hundred commands. Commands that end by themselves
are therefore forked from one process that has loaded it (``fork_server.py``).
"""

import atexit
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from select import select
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import httpx
import pytest

from tests.harness.hygiene import assert_clean
from tests.harness.web import web
from tests.integration.processes import free_port

COMMAND = [sys.executable, "-m", "bg_ingest.cli"]

ROOT = Path(__file__).parents[2]


def environment(**settings: str) -> dict[str, str]:
    return {"PYTHONPATH": str(ROOT), **settings}


def run_bg_ingest(directory: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, for 20 seconds at most."""
    with TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        code = _fork_server().ask(directory, arguments, environment(**settings), str(out), str(err))
        return subprocess.CompletedProcess(arguments, code, out.read_text(), err.read_text())


def run_on_terminal(directory: Path, *arguments: str, **settings: str) -> tuple[int, str]:
    """Run a command on a pseudo-terminal; return its exit code and its output."""
    near, far = os.openpty()
    seen: list[bytes] = []

    def watch() -> None:
        with suppress(OSError):  # the other end is closed
            while output := os.read(near, 65_536):
                seen.append(output)

    watching = Thread(target=watch)
    watching.start()
    try:
        name = os.ttyname(far)
        code = _fork_server().ask(directory, arguments, environment(TERM="xterm-256color", **settings), name, name)
    finally:
        os.close(far)
        watching.join()
        os.close(near)
    return code, b"".join(seen).decode()


class ForkServer:
    """Process that forks commands."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.harness.fork_server"],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def ask(self, directory: Path, arguments: Sequence[str], settings: Mapping[str, str], out: str, err: str) -> int:
        """Run a command with output and errors in two files; return its exit code."""
        return int(self._request([str(directory), arguments, settings, out, err, True]))

    def start(self, directory: Path, arguments: Sequence[str], settings: Mapping[str, str], out: str, err: str) -> int:
        """Start a command that serves, in a process group of its own; return its process id."""
        return int(self._request([str(directory), arguments, settings, out, err, False]))

    def poll(self, pid: int) -> int | None:
        """Return the exit code of a started command, once; None while it runs."""
        code = self._request(pid)
        return None if code is None else int(code)

    def _request(self, request: object) -> Any:
        lines, answers = self._process.stdin, self._process.stdout
        assert lines is not None
        assert answers is not None
        print(json.dumps(request), file=lines, flush=True)
        if not select([answers], [], [], 20)[0]:
            os.killpg(self._process.pid, signal.SIGKILL)
            _fork_server.cache_clear()  # the next command is forked from another one
            raise AssertionError("the command did not end")
        return json.loads(answers.readline())

    def end(self) -> None:
        self._process.communicate()


@cache
def _fork_server() -> ForkServer:
    server = ForkServer()
    atexit.register(server.end)
    return server


class ForkedCommand:
    """Command that serves, forked from the process that has loaded the service: it starts a second sooner."""

    def __init__(self, directory: Path, *arguments: str, errors: str = "", **settings: str) -> None:
        self._output_path = directory / "output"
        out = str(self._output_path)
        self._pid = _fork_server().start(directory, arguments, environment(**settings), out, errors or f"{out}-errors")
        self._errors = Path(errors or f"{out}-errors")
        self.code: int | None = None

    @property
    def output(self) -> str:
        errors = self._errors.read_text() if self._errors.is_file() else ""
        return (self._output_path.read_text() if self._output_path.exists() else "") + errors

    def wait(self, condition: Callable[[], bool], seconds: float = 20) -> None:
        """Wait for the condition or the end of the command."""
        deadline = time.monotonic() + seconds
        while not condition() and self.code is None:
            assert time.monotonic() < deadline, self.output
            time.sleep(0.02)
            self.code = _fork_server().poll(self._pid)

    def stop(self) -> int:
        """End the command, unless it has ended, and return its exit code."""
        if self.code is None:
            os.killpg(self._pid, signal.SIGTERM)
            self.wait(lambda: False)
        assert self.code is not None
        assert_clean(
            self.output.replace(str(self._output_path.parent), ""), "its output"
        )  # a path may contain any number
        return self.code


class RunningCommand:
    """Command that serves, in a process group of its own."""

    def __init__(self, directory: Path, *arguments: str, **settings: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._output_path = directory / "output"
        with self._output_path.open("w") as output:
            self.process = subprocess.Popen(
                [*COMMAND, *arguments, "--port", str(self.port)],
                cwd=directory,
                env=environment(**settings),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self._output_path.read_text()

    def until(self, condition: Callable[[], bool], seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.02)

    def answers(self, path: str) -> bool:
        try:
            return web.get(f"{self.url}{path}", timeout=2).is_success
        except httpx.TransportError:
            return False

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End the process and search its output for secrets."""
        os.killpg(self.process.pid, number)
        code = self.process.wait(20)
        assert_clean(
            self.output.replace(str(self._output_path.parent), ""), "its output"
        )  # a path may contain any number
        return code

    def end(self) -> None:
        if self.process.poll() is None:
            self.stop(signal.SIGKILL)


Serve = Callable[..., RunningCommand]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    with ExitStack() as stack:

        def start(*arguments: str, **settings: str) -> RunningCommand:
            running = RunningCommand(tmp_path, *arguments, **settings)
            stack.callback(running.end)
            return running

        yield start
