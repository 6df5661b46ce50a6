"""Proxy in front of an HTTP server: open, broken, silent, or answering errors of its own."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Literal

import anyio
from anyio import BrokenResourceError, ClosedResourceError, EndOfStream
from anyio.abc import SocketAttribute, SocketStream
from anyio.from_thread import BlockingPortal, start_blocking_portal

State = Literal["open", "breaking", "silent", "failing"]

HOST = "127.0.0.1"

FAILURE_BODY = b'{"__type":"com.amazonaws.dynamodb.v20120810#InternalServerError","message":"on purpose"}'
FAILED_RESPONSE = (
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/x-amz-json-1.0\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(FAILURE_BODY), FAILURE_BODY)
)
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Gate:
    """Proxy with a state. A change of the state cuts the existing connections."""

    def __init__(self, server_port: int, portal: BlockingPortal) -> None:
        self.port = 0
        self.failed = 0
        """Requests answered with 500."""
        self._server_port = server_port
        self._portal = portal
        self._state: State = "open"
        self._wires: set[anyio.CancelScope] = set()

    def switch(self, state: State) -> None:
        """Set the state; callable from any thread but the gate's own."""
        self._portal.call(self._switch, state)

    def _switch(self, state: State) -> None:
        self._state = state
        for wire in self._wires:
            wire.cancel()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        async with await anyio.create_tcp_listener(local_host=HOST) as listener, anyio.create_task_group() as group:
            self.port = listener.extra(SocketAttribute.local_port)  # noqa: S610 - anyio's method
            group.start_soon(listener.serve, self._serve)
            yield
            group.cancel_scope.cancel()

    async def _serve(self, client: SocketStream) -> None:
        with anyio.CancelScope() as wire, suppress(OSError, BrokenResourceError, ClosedResourceError, EndOfStream):
            self._wires.add(wire)
            async with client:
                match self._state:
                    case "open":
                        await self._pass_on(client, wire)
                    case "silent":
                        await anyio.sleep_forever()
                    case "failing":
                        await self._fail(client)
        self._wires.discard(wire)

    async def _pass_on(self, client: SocketStream, wire: anyio.CancelScope) -> None:
        async with await anyio.connect_tcp(HOST, self._server_port) as server, anyio.create_task_group() as group:
            group.start_soon(_pass, client, server, wire)
            group.start_soon(_pass, server, client, wire)

    async def _fail(self, client: SocketStream) -> None:
        asked = b""
        while b"\r\n\r\n" not in asked:
            asked += await client.receive()
        head, _, body = asked.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        while length and len(body) < int(length[1]):
            body += await client.receive()
        await client.send(FAILED_RESPONSE)
        self.failed += 1


async def _pass(one: SocketStream, other: SocketStream, wire: anyio.CancelScope) -> None:
    with suppress(OSError, BrokenResourceError, ClosedResourceError, EndOfStream):
        async for some in one:
            await other.send(some)
    wire.cancel()


@contextmanager
def open_gate(server_port: int) -> Iterator[Gate]:
    """Serve a gate from a thread of its own."""
    with start_blocking_portal() as portal:
        gate = Gate(server_port, portal)
        with portal.wrap_async_context_manager(gate.listening()):
            yield gate
