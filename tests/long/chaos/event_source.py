"""Client of server-sent events over a connection of its own, for programs with many streams at once."""

import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio import BrokenResourceError, ClosedResourceError, EndOfStream, IncompleteRead
from anyio.abc import SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

from tests.harness.sse import ServerEvent, SseParser
from tests.long.chaos.processes import HOST

MAX_HEAD_BYTES, MAX_LINE_BYTES = 16_384, 64

STREAM_ENDS = (OSError, EndOfStream, IncompleteRead, BrokenResourceError, ClosedResourceError)
"""Errors of a connection that is refused, cut or closed."""


class EventSource:
    """One answer. ``status`` is 200 for a stream; other answers have no events."""

    def __init__(self, connection: BufferedByteReceiveStream, status: int) -> None:
        self.status = status
        self.is_complete = False
        """The server ended the answer; False while it continues, and if it was cut."""
        self._connection = connection
        self._parser = SseParser()

    @property
    def retry_ms(self) -> int:
        return self._parser.retry or 0

    async def events(self) -> AsyncIterator[ServerEvent]:
        """Yield events and comments until the answer ends; one of ``STREAM_ENDS`` if it is cut."""
        while size := int(await self._connection.receive_until(b"\r\n", MAX_LINE_BYTES), 16):
            chunk = await self._connection.receive_exactly(size + 2)
            for event in self._parser.feed(chunk[:-2]):
                yield event
        self.is_complete = True


@asynccontextmanager
async def open_source(
    port: int,
    path: str,
    *,
    key: str = "",
    last_event_id: str = "",
    vector: Mapping[str, int | None] | None = None,
    small_buffers: bool = False,
) -> AsyncIterator[EventSource]:
    """Request a stream, of the users of a vector if one is given; one of ``STREAM_ENDS`` if nothing answers.

    With ``small_buffers`` the kernel holds about 230 KB for a client that does not read, instead of 4 MB.
    """
    body = b"" if vector is None else json.dumps({"after": vector}).encode()
    headers: dict[str, Any] = {"Host": f"{HOST}:{port}", "Accept": "text/event-stream"}
    if vector is not None:
        headers |= {"Content-Type": "application/json", "Content-Length": len(body)}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    if last_event_id:
        headers["Last-Event-ID"] = last_event_id
    lines = [f"{'GET' if vector is None else 'POST'} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
    async with await (connect_small(port) if small_buffers else anyio.connect_tcp(HOST, port)) as connection:
        await connection.send("\r\n".join([*lines, "", ""]).encode() + body)
        received = BufferedByteReceiveStream(connection)
        head = await received.receive_until(b"\r\n\r\n", MAX_HEAD_BYTES)
        yield EventSource(received, int(head.split(b" ", 2)[1]))


async def connect_small(port: int) -> SocketStream:
    """Connect with Ethernet's segment size, because the kernel's buffer of the sender grows with the size of segments.

    With a receive buffer of 4 KB, the window never has room for a whole segment of the server. A reader that continues
    after 15 s is then cut after 20 s, because the kernel counts from the first full window until there is room.
    """
    connection = socket.socket()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1_460)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
    connection.connect((HOST, port))
    return await SocketStream.from_socket(connection)
