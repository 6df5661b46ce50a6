"""TCP proxy in front of a server; connections can be closed, or become silent without being closed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio import BrokenResourceError, ClosedResourceError, EndOfStream
from anyio.abc import SocketAttribute, SocketStream


class Proxy:
    """Passes on bytes in both directions between clients of ``port`` and the server."""

    def __init__(self, server_port: int) -> None:
        self.port = 0
        self._server_port = server_port
        self._answers = anyio.Event()
        self._answers.set()
        self._wires: set[anyio.CancelScope] = set()

    def cut(self) -> None:
        """Close the current connections."""
        for wire in self._wires:
            wire.cancel()

    def silence(self) -> None:
        """Hold back the server's bytes until ``resume``."""
        self._answers = anyio.Event()

    def resume(self) -> None:
        self._answers.set()

    async def serve(self, client: SocketStream) -> None:
        with anyio.CancelScope() as wire:
            self._wires.add(wire)
            async with (
                client,
                await anyio.connect_tcp("127.0.0.1", self._server_port) as server,
                anyio.create_task_group() as group,
            ):
                group.start_soon(self._pass, client, server, wire)
                group.start_soon(self._pass, server, client, wire)
        self._wires.discard(wire)

    async def _pass(self, one: SocketStream, other: SocketStream, wire: anyio.CancelScope) -> None:
        try:
            async for some in one:
                if one.extra(SocketAttribute.remote_port) == self._server_port:  # noqa: S610 - anyio's method
                    await self._answers.wait()
                await other.send(some)
        except (BrokenResourceError, ClosedResourceError, EndOfStream):
            pass
        wire.cancel()


@asynccontextmanager
async def proxy_to(server_port: int) -> AsyncIterator[Proxy]:
    proxy = Proxy(server_port)
    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as group,
    ):
        proxy.port = listener.extra(SocketAttribute.local_port)  # noqa: S610 - anyio's method
        group.start_soon(listener.serve, proxy.serve)
        yield proxy
        group.cancel_scope.cancel()
