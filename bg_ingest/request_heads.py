"""Bounds on the heads of requests: their size, and the time in which the first head of a connection arrives.

granian has one time-out for heads and for idle connections. Idle connections determine its value, which is longer than
the idle time-out of a load balancer. This module sets a shorter bound for first heads, because any client may send a
head slowly.
"""

import asyncio  # noqa: TID251 - the loop of granian's worker
import os
import socket
import stat
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple, TypeAlias, TypeVar

App: TypeAlias = Callable[..., Any]
"""ASGI application."""
Peer: TypeAlias = tuple[str, int]
Item = TypeVar("Item")

MAX_HEAD_BYTES = 65_536
"""A longer head is answered with 431. granian's own limit, 417,792, lets idle clients hold gigabytes."""
HEAD_SECONDS = 5
"""Time for the head of a connection's first request to arrive, from the connection's start."""
SWEEP_SECONDS = 0.25
HEAD_SWEEPS = round(HEAD_SECONDS / SWEEP_SECONDS)
MAX_WAITING = 256
"""Largest number of connections without a request. Beyond it the oldest are ended, because each may hold up to 128 KB.
A connection that only one sweep has found is not ended."""
PAUSE_AFTER, PAUSE_SECONDS = 32, 0.001
"""Number of sockets after which a sweep pauses, and length of the pause. Without pauses a sweep of many sockets would
hold the event loop."""
DESCRIPTORS = "/proc/self/fd"


class WaitingConnection(NamedTuple):
    """Connection without a request so far."""

    peer: Peer
    sweeps: int


class HeadLimits:
    """ASGI application around another one. It ends connections whose first request does not arrive in time.

    On Linux a task lists the open connections of the process four times a second (a sweep), without those that made
    a request. Age is counted in sweeps. Each sweep begins with a pass of the event loop, so requests that a busy loop
    has not processed yet are not late. A thread instead of the task would wait for the interpreter lock after each
    system call, and cost 5 % of the CPU time of a webhook.
    """

    def __init__(self, app: App, port: int) -> None:
        self._app = app
        self._port = port
        self._peers: set[Peer] = set()
        """Peers of the requests since the last sweep."""
        self._earlier_peers: set[Peer] = set()
        """Peers of the requests between the last two sweeps. The next sweep reads this set again, because the last one
        may have failed."""
        self._waiting: dict[int, WaitingConnection] = {}
        """By inode of their socket, the oldest first."""
        self._ignored: set[int] = set()
        """Inodes of all other sockets: connections with a request, other ports."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - the server's
        if scope["type"] == "http":
            self._peers.add(_normalize(scope["client"]))
            if _head_bytes(scope) > MAX_HEAD_BYTES:  # granian accepts up to twice its `max_buffer_size`
                await send({"type": "http.response.start", "status": 431, "headers": [(b"content-length", b"0")]})
                await send({"type": "http.response.body", "body": b""})
                return
        elif sys.platform == "linux":
            watch = asyncio.create_task(self._watch(), name="head deadline")
            try:
                await self._app(scope, receive, send)
            finally:
                watch.cancel()
            return
        await self._app(scope, receive, send)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            await asyncio.sleep(0)
            with suppress(OSError):  # no descriptor left
                await self._sweep()

    async def _sweep(self) -> None:
        seen, self._earlier_peers, self._peers = self._earlier_peers, self._peers, set()
        seen = seen | self._earlier_peers
        descriptors = {inode: descriptor async for inode, descriptor in _paced(_iter_sockets())}
        self._ignored &= descriptors.keys()
        self._waiting = {inode: waiting for inode, waiting in self._waiting.items() if inode in descriptors}
        async for inode in _paced(descriptors.keys() - self._ignored - self._waiting.keys()):
            peer = self._find_peer(descriptors[inode], inode)
            if peer is None:
                self._ignored.add(inode)
            else:
                self._waiting[inode] = WaitingConnection(peer, 0)
        for inode, (peer, sweeps) in list(self._waiting.items()):
            if peer in seen:
                del self._waiting[inode]
                self._ignored.add(inode)
            else:
                self._waiting[inode] = WaitingConnection(peer, sweeps + 1)
        excess = len(self._waiting) - MAX_WAITING
        late = [
            inode
            for number, (inode, waiting) in enumerate(self._waiting.items())
            if waiting.sweeps > HEAD_SWEEPS or (number < excess and waiting.sweeps > 1)
        ]
        async for inode in _paced(late):
            if self._waiting[inode].peer not in self._peers:  # a request may have arrived during the pauses
                _end(descriptors[inode], inode)

    def _find_peer(self, descriptor: int, inode: int) -> Peer | None:
        """Return the peer of a connection to the port of the service; None for any other socket."""
        with suppress(OSError), _duplicate(descriptor, inode) as connection:
            if connection.family in {socket.AF_INET, socket.AF_INET6} and connection.getsockname()[1] == self._port:
                return _normalize(connection.getpeername())
        return None


async def _paced(items: Iterable[Item]) -> AsyncIterator[Item]:
    """Yield the items with pauses."""
    for number, item in enumerate(items, 1):
        yield item
        if number % PAUSE_AFTER == 0:
            await asyncio.sleep(PAUSE_SECONDS)


def _iter_sockets() -> Iterator[tuple[int, int]]:
    """Yield inode and descriptor of each socket of the process."""
    with os.scandir(DESCRIPTORS) as entries:  # up to 8,192, read in parts
        for entry in entries:
            with suppress(OSError):  # closed meanwhile
                status = os.fstat(int(entry.name))
                if stat.S_ISSOCK(status.st_mode):
                    yield status.st_ino, int(entry.name)


def _duplicate(descriptor: int, inode: int) -> socket.socket:
    """Return the socket under a new descriptor, because the server may close the original one at any time."""
    duplicate = socket.socket(fileno=os.dup(descriptor))
    if os.fstat(duplicate.fileno()).st_ino != inode:
        duplicate.close()
        raise OSError("closed meanwhile")
    return duplicate


def _end(descriptor: int, inode: int) -> None:
    with suppress(OSError), _duplicate(descriptor, inode) as connection:
        connection.shutdown(socket.SHUT_RDWR)


def _head_bytes(scope: Any) -> int:  # noqa: ANN401 - the server's
    lines = sum(len(name) + len(value) + 4 for name, value in scope["headers"])
    return len(scope["raw_path"]) + len(scope["query_string"]) + lines


def _normalize(address: Any) -> Peer:  # noqa: ANN401 - of either family
    """Return host and port. The host of an IPv4 peer is the same for sockets of IPv4 and of IPv6."""
    return str(address[0]).removeprefix("::ffff:"), int(address[1])
