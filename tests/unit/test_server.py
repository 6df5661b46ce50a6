"""Server process: granian, its worker and the runtime together, with a small app in place of ours."""

import http.client
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from bg_ingest.server import READ_TIMEOUT_MS, PortTaken, listen
from tests.harness.web import web
from tests.integration.processes import free_port

ROOT = Path(__file__).parents[2]

APP = """
import os
import sys
import time
from contextlib import asynccontextmanager

import anyio

from workers.runtime import Runtime

behaviour = os.environ.get("BEHAVIOUR", "")


async def actor(*, task_status):
    if behaviour == "fails to start":
        raise OSError("no table")
    if behaviour == "starts slowly":
        print("starting", flush=True)
        await anyio.sleep(1)
    task_status.started()
    if behaviour == "crashes":
        raise ValueError("bug")
    await anyio.sleep_forever()


async def drain():
    print("drain", flush=True)
    if behaviour == "cannot be stopped":
        time.sleep(60)
    print("drained", flush=True)


runtime = Runtime([actor], drain=drain, drain_deadline=1)


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while scope["path"] == "/endless":
        await send({"type": "http.response.body", "body": bytes(100_000), "more_body": True})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})


async def lifespan(receive, send):
    await receive()
    try:
        async with runtime.running():
            await send({"type": "lifespan.startup.complete"})
            print("ready", flush=True)
            await receive()
    except Exception as error:
        await send({"type": "lifespan.startup.failed", "message": repr(error)})
        return
    print("closed", flush=True)
    await send({"type": "lifespan.shutdown.complete"})
"""

SERVE = f"""
import sys
from functools import partial

sys.path[:0] = [{str(ROOT)!r}, sys.argv[1]]
from bg_ingest.server import Server, listen, load_app

listener = listen("127.0.0.1", 0)
print("port", listener.getsockname()[1], flush=True)
Server(partial(load_app, "small:app"), listener, kill_timeout=int(sys.argv[2]), keep_alive=int(sys.argv[3])).serve()
"""


class StartedServer:
    """A server in its own process group, and its whole output."""

    def __init__(self, folder: Path, *, behaviour: str = "", kill_timeout: int = 10, keep_alive: int = 75) -> None:
        (folder / "small.py").write_text(APP)
        self._output_path = folder / "output"
        with self._output_path.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SERVE, str(folder), str(kill_timeout), str(keep_alive)],
                cwd=folder,
                env={"BEHAVIOUR": behaviour},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self._output_path.read_text()

    def says(self, text: str) -> "StartedServer":
        until(lambda: text in self.output)
        return self

    @property
    def port(self) -> int:
        found = re.search(r"port (\d+)", self.output)
        assert found, self.output
        return int(found[1])

    def get(self) -> str:
        return web.get(f"http://127.0.0.1:{self.port}/", timeout=2).text

    def ends(self, within: float) -> int:
        """Return its exit code."""
        return self.process.wait(within)

    def kill(self) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.process.wait(5)


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., StartedServer]]:
    started: list[StartedServer] = []

    def start(**given: object) -> StartedServer:
        started.append(StartedServer(tmp_path, **given))  # type: ignore[arg-type]  # the constructor's own
        return started[-1]

    yield start
    for server in started:
        server.kill()


@pytest.fixture
def stalled() -> Iterator[Callable[[int], None]]:
    """Ask for an endless response and read none of it."""
    clients: list[socket.socket] = []

    def ask(port: int) -> None:
        client = socket.create_connection(("127.0.0.1", port))
        client.sendall(b"GET /endless HTTP/1.1\r\nHost: here\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 200"
        clients.append(client)

    yield ask
    for client in clients:
        client.close()


Serve = Callable[..., StartedServer]


def test_sigterm_drains_and_ends_with_zero(serve: Serve) -> None:
    server = serve().says("ready")
    server.process.terminate()
    assert server.ends(5) == 0
    assert re.findall("drain(?:ed)?$|closed", server.output, re.MULTILINE) == ["drain", "drained", "closed"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(("behaviour", "signalled_when"), [("", "ready"), ("starts slowly", "starting")])
def test_a_signal_to_the_whole_group_ends_with_zero(
    serve: Serve, number: signal.Signals, behaviour: str, signalled_when: str
) -> None:
    server = serve(behaviour=behaviour).says(signalled_when)
    os.killpg(server.process.pid, number)
    assert server.ends(5) == 0
    assert "drained" in server.output


def test_however_often_it_is_signalled_it_drains_once_and_ends_with_zero(serve: Serve) -> None:
    server = serve().says("ready")
    deadline = time.monotonic() + 10
    while server.process.poll() is None and time.monotonic() < deadline:
        os.kill(server.process.pid, random.choice([signal.SIGTERM, signal.SIGINT]))
    assert server.ends(0) == 0
    assert re.findall("drain(?:ed)?$", server.output, re.MULTILINE) == ["drain", "drained"]


def test_sigterm_before_it_is_ready_ends_with_zero(serve: Serve) -> None:
    server = serve().says("port")
    until(lambda: bool(children(server.process.pid)))
    server.process.terminate()
    assert server.ends(10) == 0


def test_a_stalled_reader_delays_neither_the_drain_nor_the_end(serve: Serve, stalled: Callable[[int], None]) -> None:
    server = serve().says("ready")
    stalled(server.port)
    server.process.terminate()
    server.says("drained")  # at once; the response is still open
    assert server.process.poll() is None
    assert server.ends(3) == 0
    assert "closed" not in server.output


def test_no_new_connection_is_accepted_while_draining(serve: Serve, stalled: Callable[[int], None]) -> None:
    server = serve().says("ready")
    stalled(server.port)
    server.process.terminate()
    server.says("drained")

    def refused() -> bool:
        try:
            server.get()
        except httpx.ConnectError:
            return True
        return False

    until(refused, 1)


def test_a_drain_that_had_to_be_killed_ends_with_one(serve: Serve) -> None:
    server = serve(behaviour="cannot be stopped", kill_timeout=1).says("ready")
    server.process.terminate()
    assert server.ends(5) == 1
    assert "drained" not in server.output


def test_a_crash_of_the_runtime_stops_the_process_with_one(serve: Serve) -> None:
    server = serve(behaviour="crashes")
    assert server.ends(10) == 1
    assert "ValueError: bug" in server.output


def test_a_failed_start_ends_with_one(serve: Serve) -> None:
    server = serve(behaviour="fails to start")
    assert server.ends(10) == 1
    assert "ready" not in server.output


def test_the_worker_follows_a_killed_server(serve: Serve) -> None:
    server = serve().says("ready")
    worker = int(server.get())
    assert worker != server.process.pid
    server.process.kill()
    until(lambda: not Path(f"/proc/{worker}").exists(), 5)
    assert "drained" in server.output


def test_silent_connections_stop_no_other_client(serve: Serve) -> None:
    server = serve().says("ready")
    kept_alive = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    worker = request(kept_alive)
    halves = (b"", b"GET / HTTP/1.1\r\nHost: here\r\nX-", b"PRI * HTTP/2.0\r\n")
    idle = [socket.create_connection(("127.0.0.1", server.port), 2) for _ in range(1_200)]
    for number, connection in enumerate(idle):
        connection.sendall(halves[number % 3])
    assert server.get()
    ended = time.monotonic() + 9
    for connection in idle:
        connection.settimeout(max(0.01, ended - time.monotonic()))
        with suppress(ConnectionResetError):
            while connection.recv(1_000):  # the answer to half a request, if any
                pass
        connection.close()
    assert time.monotonic() < ended, "the connections are closed"
    assert request(kept_alive) == worker, "F18: only a first head has to arrive soon"
    server.process.terminate()
    assert server.ends(5) == 0, "an idle connection does not delay the end"
    kept_alive.close()


def request(connection: http.client.HTTPConnection, path: str = "/") -> bytes:
    connection.request("GET", path)
    return connection.getresponse().read()


def test_f18_an_idle_connection_is_ended_after_the_time_that_is_set(serve: Serve) -> None:
    server = serve(keep_alive=1).says("ready")
    with socket.create_connection(("127.0.0.1", server.port), 5) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        assert client.recv(1_000).startswith(b"HTTP/1.1 200")
        answered_at = time.monotonic()
        assert client.recv(1_000) == b""
        assert 0.5 < time.monotonic() - answered_at < 3


def test_s2_a_head_of_more_than_64_kb_is_answered_with_431(serve: Serve) -> None:
    server = serve().says("ready")

    def status(size: int) -> bytes:
        with socket.create_connection(("127.0.0.1", server.port), 5) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: here\r\nX-Long: ")
            with suppress(ConnectionError):
                client.sendall(b"x" * size + b"\r\n\r\n")
            return client.recv(12)

    assert status(60_000) == b"HTTP/1.1 200"
    for size in (66_000, 100_000, 200_000, 400_000):
        assert status(size) == b"HTTP/1.1 431", size


def test_as_many_connections_are_taken_as_there_are_files_for() -> None:
    ask = """
import resource
from bg_ingest.server import max_connections
resource.setrlimit(resource.RLIMIT_NOFILE, (1_000, 2_000))
print(max_connections(), resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    done = subprocess.run([sys.executable, "-c", ask], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "1744 (2000, 2000)\n"


def test_a_reader_who_takes_nothing_is_given_up_by_the_system() -> None:
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == READ_TIMEOUT_MS


def test_the_second_write_of_an_answer_waits_for_no_acknowledgement() -> None:
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_two_servers_never_share_a_port() -> None:
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(PortTaken, match=rf"127.0.0.1:{port} .*in use.*: stop the program that uses it, or choose"):
            listen("127.0.0.1", port)


def test_a_port_shared_by_others_is_taken_too() -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as other, pytest.raises(PortTaken):
        listen("127.0.0.1", other.getsockname()[1])


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this machine has no IPv6")
def test_f23_two_colons_are_both_families_of_ip() -> None:
    with listen("::", 0) as listener:
        port = listener.getsockname()[1]
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port), 2).close()
        for host in ("127.0.0.1", "0.0.0.0", "::1", "::"):  # noqa: S104 - an address that is taken
            with pytest.raises(PortTaken):
                listen(host, port)


def test_an_address_that_is_not_ours_is_refused_in_a_sentence() -> None:
    with pytest.raises(PortTaken, match=r"^Cannot listen on 192\.0\.2\.1:5001 \(.*\): .*HOST or PORT\.$"):
        listen("192.0.2.1", 5001)


def children(parent: int) -> list[str]:
    return Path(f"/proc/{parent}/task/{parent}/children").read_text().split()


COMMAND = f"""
import sys
from functools import partial

sys.path[:0] = [{str(ROOT)!r}, sys.argv[1]]
from bg_ingest.commands.serve import serve
from bg_ingest.server import load_app

serve(partial(load_app, "small:app"), "127.0.0.1", int(sys.argv[2]))
"""


@pytest.mark.parametrize("output", ["/dev/full", None], ids=["disk full", "pipe closed"])
@pytest.mark.parametrize(("behaviour", "code"), [("", 0), ("crashes", 1), ("fails to start", 1)])
def test_f1_exit_codes_do_not_depend_on_the_output(
    behaviour: str, code: int, output: str | None, tmp_path: Path
) -> None:
    (tmp_path / "small.py").write_text(APP)
    port = free_port()
    reader, writer = os.pipe()
    unwritable = os.open(output, os.O_WRONLY) if output else os.dup(writer)
    for descriptor in (reader, writer):
        os.close(descriptor)
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(tmp_path), str(port)],
        env={"BEHAVIOUR": behaviour},
        stdout=unwritable,
        stderr=unwritable,
        start_new_session=True,
    ) as process:
        os.close(unwritable)
        try:
            if code == 0:
                until(lambda: answers(port))
                process.terminate()
            assert process.wait(10) == code
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def answers(port: int) -> bool:
    try:
        return web.get(f"http://127.0.0.1:{port}/", timeout=2).is_success
    except httpx.TransportError:
        return False
