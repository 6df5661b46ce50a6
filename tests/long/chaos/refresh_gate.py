"""Gate before the store that holds a refresh at a chosen step: at one of the writes of its grant.

A refresh writes its grant twice: an UpdateItem claims it before the token is sent, a PutItem stores the answer.
A held request or answer is not forwarded until the process that waits for it has ended.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum

import anyio
from anyio import BrokenResourceError, ClosedResourceError, EndOfStream
from anyio.abc import SocketStream
from anyio.from_thread import BlockingPortal, start_blocking_portal

from tests.long.chaos.gate import HOST, LENGTH, Gate


class RefreshStep(StrEnum):
    """Progress of a refresh at its kill."""

    BEFORE_SEND = "before send"
    """The claim is written, and its writer has no answer yet."""
    SENT = "sent"
    """The provider has the token and has not answered, because it is slow. No gate holds anything."""
    ANSWERED = "answered, not stored"
    """The write of the new pair has not reached the store."""
    STORED = "stored"
    """The new pair is written, and its writer has no answer yet."""


WRITES = {RefreshStep.BEFORE_SEND: b".UpdateItem", RefreshStep.ANSWERED: b".PutItem", RefreshStep.STORED: b".PutItem"}


class RefreshGate(Gate):
    """Gate that holds the refreshes of some users, each at one step."""

    def __init__(self, server_port: int, portal: BlockingPortal) -> None:
        super().__init__(server_port, portal)
        self._aims: dict[bytes, RefreshStep] = {}
        self._held: set[bytes] = set()

    def aim(self, user: str, step: RefreshStep) -> None:
        """Hold this user's next refresh at this step, and all later requests of its writer for the grant."""
        self._portal.call(self._aims.__setitem__, _quoted(user), step)

    def is_held(self, user: str) -> bool:
        return _quoted(user) in self._held

    def forget(self) -> None:
        """Hold no further refresh."""
        self._portal.call(self._aims.clear)

    async def _pass_on(self, client: SocketStream, wire: anyio.CancelScope) -> None:
        async with await anyio.connect_tcp(HOST, self._server_port) as server, anyio.create_task_group() as group:
            held: list[bytes] = []
            group.start_soon(self._answer, server, client, held, wire)
            with suppress(OSError, BrokenResourceError, ClosedResourceError, EndOfStream):
                while True:
                    request = await _read_request(client)
                    if user := self._aimed_at(request):
                        step = self._aims[user]
                        if step is RefreshStep.ANSWERED or user in self._held:
                            self._held.add(user)
                            await client.receive()  # no further request passes before its kill
                            break
                        held.append(user)
                    await server.send(request)
            wire.cancel()

    async def _answer(
        self, server: SocketStream, client: SocketStream, held: list[bytes], wire: anyio.CancelScope
    ) -> None:
        with suppress(OSError, BrokenResourceError, ClosedResourceError, EndOfStream):
            async for some in server:
                if held:
                    self._held.update(held)
                else:
                    await client.send(some)
        wire.cancel()

    def _aimed_at(self, request: bytes) -> bytes | None:
        """Return the user with a refresh held at this request or its answer."""
        if b'"grant#' not in request:
            return None
        head, _, body = request.partition(b"\r\n\r\n")
        for user, step in self._aims.items():
            if user in body and step in WRITES and WRITES[step] in head:
                return user
        return None


async def _read_request(client: SocketStream) -> bytes:
    """Receive one request; a client sends the next one after the answer."""
    asked = b""
    while b"\r\n\r\n" not in asked:
        asked += await client.receive()
    head, _, body = asked.partition(b"\r\n\r\n")
    length = LENGTH.search(head)
    missing = int(length[1]) - len(body) if length else 0
    parts = [asked]
    while missing > 0:
        parts.append(await client.receive())
        missing -= len(parts[-1])
    return b"".join(parts)


def _quoted(user: str) -> bytes:
    return f'"user#{user}"'.encode()


@contextmanager
def open_refresh_gate(server_port: int) -> Iterator[RefreshGate]:
    """Serve a gate from a thread of its own."""
    with start_blocking_portal() as portal:
        gate = RefreshGate(server_port, portal)
        with portal.wrap_async_context_manager(gate.listening()):
            yield gate
