"""Clients of a security test: ``kind port seconds``. Prints the number of answers of each status.

python -m tests.long.chaos.hostile_clients open-routes 5001 20
"""

import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta

import anyio
from anyio.abc import SocketStream

from bg_ingest.adapters.clock import SystemClock
from tests.harness.webhook_sender import signed, to_bytes
from tests.long.chaos.memory import USER

HOST = "127.0.0.1"
SCHEMAS, SCRAPES = 8, 64
HEADS, HEAD_BYTES = 4_000, 390_000
READERS, RANGES, COUNTS = 400, 200, 16
READ_BYTES, READ_PAUSE = 65_536, 5.0
BODIES = 64
YEARS = 2

statuses = Counter[str]()


async def read_answer(stream: SocketStream) -> None:
    """Read one whole answer with a Content-Length, and count its status."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += await stream.receive()
    head, _, body = data.partition(b"\r\n\r\n")
    statuses[head[9:12].decode()] += 1
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    left = int(lengths[0].partition(b":")[2]) - len(body) if lengths else 0
    while left > 0:
        left -= len(await stream.receive(1 << 20))


async def repeat(port: int, path: str) -> None:
    """Send a request again and again over one connection."""
    async with await anyio.connect_tcp(HOST, port) as stream:
        while True:
            await stream.send(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            await read_answer(stream)


async def read_years(port: int) -> None:
    """Read a whole long answer as fast as it is sent."""
    async with await anyio.connect_tcp(HOST, port) as stream:
        await stream.send(f"GET {years_path()} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
        statuses[(await stream.receive(READ_BYTES))[9:12].decode()] += 1
        async for _ in stream:
            pass


async def hold_head(port: int) -> None:
    """Send a head of 390 KB without its end, and keep the connection."""
    async with await anyio.connect_tcp(HOST, port) as stream:
        await stream.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        for _ in range(HEAD_BYTES // 30_000):
            await stream.send(b"X-Half: " + b"a" * 29_990 + b"\r\n")
        statuses[(await stream.receive())[9:12].decode()] += 1
        await anyio.sleep_forever()


def years_path(route: str = "", years: int = YEARS) -> str:
    now = SystemClock().now()
    start = now - timedelta(days=365 * years)
    return f"/api/bg/{USER}{route}?from={start:%Y-%m-%dT%H:%M:%SZ}&to={now:%Y-%m-%dT%H:%M:%SZ}"


async def read_slowly(port: int) -> None:
    """Read a long answer at 64 KB each 5 seconds; begin again at its end."""
    while True:
        async with await anyio.connect_tcp(HOST, port) as stream:
            await stream.send(f"GET {years_path()}&view=full HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            statuses[(await stream.receive(READ_BYTES))[9:12].decode()] += 1
            async for _ in stream:
                await anyio.sleep(READ_PAUSE)


async def send_body_slowly(port: int) -> None:
    """Announce a webhook of 1 MiB with the headers of a signature, and send a byte each second."""
    while True:
        async with await anyio.connect_tcp(HOST, port) as stream:
            headers = signed(b"", "msg_slow", SystemClock().now()) | {"Content-Length": "1048576"}
            lines = [name.encode() + b": " + to_bytes(value) for name, value in headers.items()]
            head = [b"POST /api/bg/ada/webhook HTTP/1.1", b"Host: localhost", *lines]
            await stream.send(b"\r\n".join(head) + b"\r\n\r\n")
            for _ in range(9):
                await stream.send(b" ")
                await anyio.sleep(1)
            statuses[(await stream.receive())[9:12].decode()] += 1


Client = Callable[[int], Awaitable[None]]


def clients_of(kind: str) -> Sequence[tuple[int, Client]]:
    """Return the numbers of clients of a kind of flood, each with its behaviour."""
    kinds: dict[str, Sequence[tuple[int, Client]]] = {
        "open-routes": [
            (SCHEMAS, lambda port: repeat(port, "/schema/openapi.yaml")),
            (SCRAPES, lambda port: repeat(port, "/metrics")),
        ],
        "heads": [(HEADS, hold_head)],
        "long-answers": [
            (READERS, read_slowly),
            (RANGES, read_years),
            (COUNTS, lambda port: repeat(port, years_path("/completeness", 10))),
        ],
        "slow-bodies": [(BODIES, send_body_slowly)],
    }
    return kinds[kind]


async def run(kind: str, port: int, seconds: float) -> None:
    async def restart(client: Client) -> None:
        while True:
            with suppress(OSError, anyio.EndOfStream, anyio.BrokenResourceError):
                await client(port)
            await anyio.sleep(0.1)

    with anyio.move_on_after(seconds):
        async with anyio.create_task_group() as group:
            for count, client in clients_of(kind):
                for _ in range(count):
                    group.start_soon(restart, client)
    sys.stdout.write(f"{dict(sorted(statuses.items()))}\n")


if __name__ == "__main__":
    anyio.run(run, sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
