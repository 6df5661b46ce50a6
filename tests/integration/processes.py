"""Servers for the length of a test run: on loopback, everything they write in one folder, ended by their own ids."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from random import SystemRandom

ROOT = Path(__file__).parents[2]

EMULATOR = [sys.executable, "-m", "tests.integration.emulator"]

START_TIMEOUT, STOP_TIMEOUT = 60.0, 20.0


PORTS = range(20_000, 32_000)
"""Outside the kernel's ports for outgoing connections: the port of a server is free again after a stop."""


def free_port() -> int:
    while True:
        port = SystemRandom().choice(PORTS)  # test processes seed the shared generator alike
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Server:
    """A process, or a group of them, that answers on a port once it has started."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path, port: int) -> None:
        self.port = port
        self._command = command
        self.environment = {"PATH": os.defpath, "LANG": "C.UTF-8", **environment}
        self._folder = folder
        self._log = folder / "output.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("start it first")
        return self._process.pid

    def start(self) -> None:
        """Return once it listens; AssertionError with its last words when it does not."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self.environment,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        give_up_at = time.monotonic() + START_TIMEOUT
        while not self._listens():
            ended = self._process.poll() is not None
            if ended or time.monotonic() > give_up_at:
                self.stop()
                raise AssertionError(f"{self._command[0]} did not start: {self._log.read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it and all that it started."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, how)
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None

    def _listens(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@contextmanager
def start_server(*servers: Server) -> Iterator[None]:
    """Start servers in order, and kill them in reverse, because their data is not needed any more."""
    try:
        for server in servers:
            server.start()
        yield
    finally:
        for server in reversed(servers):
            server.stop(signal.SIGKILL)


def start_ministack(folder: Path, **more: str) -> Server:
    """Return a DynamoDB-compatible server, with more of its settings."""
    port = free_port()
    environment = {
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "SERVICES": "dynamodb",
        "IOT_MTLS_ENABLED": "0",  # would listen on all addresses
        "SFTP_ENABLED": "0",
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT),
    }
    return Server(EMULATOR, environment | more, folder, port)
