"""Clients of streams of three replicas: each resumes after every end or cut, on its own replica or on another one."""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from hashlib import blake2b

import anyio
from anyio.from_thread import start_blocking_portal

from tests.harness.sse import ServerEvent
from tests.long.chaos.event_source import STREAM_ENDS, EventSource, open_source
from tests.long.chaos.fleet import Replica

SILENCE_SECONDS = 9.0
"""Seconds without a byte, three heartbeats, after which a client reconnects."""

REFUSED_SECONDS = 0.5
"""Pause after an attempt without a stream."""


def digest(event: bytes) -> bytes:
    return blake2b(event, digest_size=8).digest()


class StreamCounts:
    """Counts of all clients."""

    def __init__(self) -> None:
        self.events: Counter[str] = Counter()
        """Changes by the replica that sent them."""
        self.ends: Counter[str] = Counter()
        """Ends of streams and refusals, by their reason."""
        self.unexpected: list[str] = []
        """Events that are due only if a change is not kept or a user is unknown."""


class StreamClient:
    """Client of one user, or of many by a vector. It keeps the numbers and the digests of all events."""

    def __init__(self, replicas: Sequence[Replica], home: Replica, users: Sequence[str], counts: StreamCounts) -> None:
        self.home = home
        self.numbers: dict[str, list[int]] = {user: [] for user in users}
        self.digests: dict[str, list[bytes]] = {user: [] for user in users}
        self._replicas = replicas
        self._counts = counts

    @property
    def name(self) -> str:
        users = list(self.numbers)
        return f"{users[0] if len(users) == 1 else f'{len(users)} users'} on {self.home.name}"

    def last(self, user: str) -> int:
        numbers = self.numbers[user]
        return numbers[-1] if numbers else 0

    async def run(self) -> None:
        """Follow until cancelled, on the own replica, or on any one after an attempt without a stream."""
        replica = self.home
        while True:
            wait, next_replica = REFUSED_SECONDS, random.choice(self._replicas)
            try:
                async with self._open(replica) as source:
                    if source.status == 200:
                        next_replica = self.home
                        wait = await self._follow(source, replica.name)
                    else:
                        self._counts.ends[f"status {source.status}"] += 1
            except STREAM_ENDS as error:
                self._counts.ends[type(error).__name__] += 1
            replica = next_replica
            await anyio.sleep(wait)

    def _open(self, replica: Replica) -> AbstractAsyncContextManager[EventSource]:
        vector = {user: self.last(user) for user in self.numbers}
        if len(vector) > 1:
            return open_source(replica.process.port, "/api/changes", vector=vector)
        ((user, last),) = vector.items()
        path = f"/api/bg/{user}/changes?after=0"
        return open_source(replica.process.port, path, last_event_id=str(last) if last else "")

    async def _follow(self, source: EventSource, replica: str) -> float:
        """Read to the end; return the seconds until the next attempt."""
        events, wait = source.events(), REFUSED_SECONDS
        while True:
            event: ServerEvent | None = None
            with anyio.move_on_after(SILENCE_SECONDS) as waiting:
                event = await anext(events, None)
            if event is None:
                self._counts.ends["silence" if waiting.cancelled_caught else "end of the answer"] += 1
                return wait
            wait = source.retry_ms / 1e3
            self._take(event, replica)

    def _take(self, event: ServerEvent, replica: str) -> None:
        if event.name.startswith("bg."):
            user, _, number = (event.id or "").rpartition("/")
            user = user or next(iter(self.numbers))
            self.numbers[user].append(int(number))
            self.digests[user].append(digest(event.raw))
            self._counts.events[replica] += 1
        elif event.name == "end":
            self._counts.ends[event.data["reason"]] += 1
        elif event.name != ":":
            self._counts.unexpected.append(f"{self.name}: {event.name} {event.data}")


@contextmanager
def running(clients: Sequence[StreamClient]) -> Iterator[Callable[[], None]]:
    """Run the clients on a thread of their own; yield a function that stops them."""

    async def run_all(scope: anyio.CancelScope) -> None:
        with scope:
            async with anyio.create_task_group() as group:
                for client in clients:
                    group.start_soon(client.run)

    with start_blocking_portal() as portal:
        scope = portal.call(anyio.CancelScope)
        future = portal.start_task_soon(run_all, scope)

        def stop() -> None:
            portal.call(scope.cancel)
            future.result(30)

        try:
            yield stop
        finally:
            portal.call(scope.cancel)
