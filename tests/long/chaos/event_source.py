"""Client of server-sent events over a connection of its own, for programs with many streams at once."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio import BrokenResourceError, ClosedResourceError, EndOfStream, IncompleteRead
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
    port: int, path: str, *, key: str = "", last_event_id: str = "", vector: Mapping[str, int | None] | None = None
) -> AsyncIterator[EventSource]:
    """Request a stream, of the users of a vector if one is given; one of ``STREAM_ENDS`` if nothing answers."""
    body = b"" if vector is None else json.dumps({"after": vector}).encode()
    headers: dict[str, Any] = {"Host": f"{HOST}:{port}", "Accept": "text/event-stream"}
    if vector is not None:
        headers |= {"Content-Type": "application/json", "Content-Length": len(body)}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    if last_event_id:
        headers["Last-Event-ID"] = last_event_id
    lines = [f"{'GET' if vector is None else 'POST'} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
    async with await anyio.connect_tcp(HOST, port) as connection:
        await connection.send("\r\n".join([*lines, "", ""]).encode() + body)
        received = BufferedByteReceiveStream(connection)
        head = await received.receive_until(b"\r\n\r\n", MAX_HEAD_BYTES)
        yield EventSource(received, int(head.split(b" ", 2)[1]))
