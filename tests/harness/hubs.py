"""Event hubs of several replicas over one store in memory, with faulty hints."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import anyio
import msgspec
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from bg_ingest.adapters.memory import MemoryHints
from bg_ingest.adapters.sealing import AesGcmSealer
from bg_ingest.adapters.sqlite import open_table
from bg_ingest.domain.changes import ConnectionChanged
from bg_ingest.domain.commits import Commit, Head, plan_erasure
from bg_ingest.domain.connections import ConnectionState
from bg_ingest.domain.ids import UserId
from bg_ingest.observability.observer import Metrics
from bg_ingest.observability.registry import MetricsRegistry
from bg_ingest.ports import Hint, TokenVerifier
from bg_ingest.ports.table import Table
from bg_ingest.services.access.audit import AuditLog
from bg_ingest.services.access.authenticate import ApiKeys, Authenticator
from bg_ingest.services.queries.changes import ChangeQueries
from bg_ingest.services.queries.event_hub import EventHub
from bg_ingest.services.queries.many_users import EventOf
from bg_ingest.services.queries.stream import (
    DEFAULT_STREAM_LIMITS,
    ChangeStream,
    Heartbeat,
    StreamClient,
    StreamItem,
    StreamLimits,
)
from bg_ingest.services.queries.stream_checks import StreamChecks
from bg_ingest.store import Store
from tests.fakes.counting_table import CountingTable
from tests.harness.service import LoopClock

ADA, BEN = UserId("ada"), UserId("ben")
CLIENT = StreamClient("key:one", None, "GET /stream")

Deliver = Callable[[MemoryHints, Hint], None]


class FaultyHints:
    """Hints that a test loses, repeats or delays by ``fault``."""

    def __init__(self, replicas: list[MemoryHints]) -> None:
        self.inner = MemoryHints(replicas)
        self.fault: Deliver = MemoryHints.send
        self.requests = 0
        self.while_requested: Callable[[], Awaitable[object]] = checkpoint

    @property
    def connected(self) -> bool:
        return self.inner.connected

    async def request(self) -> None:
        self.requests += 1
        await self.while_requested()

    def send(self, hint: Hint) -> None:
        self.fault(self.inner, hint)

    async def receive(self) -> Hint:
        return await self.inner.receive()


class HubReplica:
    """Hub of one process, with its metrics."""

    def __init__(
        self, store: Store, clock: LoopClock, hints: FaultyHints, limits: StreamLimits, verifier: TokenVerifier | None
    ) -> None:
        self.hints = hints
        self.registry = MetricsRegistry()
        sealer = AesGcmSealer([bytes(32)])
        self.audit_log = AuditLog(store.audit, sealer, clock, "test", retention=clock.now() - clock.now())
        authenticator = Authenticator(store.keys, clock, token_verifier=verifier)
        checks = StreamChecks(authenticator, self.audit_log, clock)
        changes = ChangeQueries(store, clock, "/test")
        self.hub = EventHub(store, changes, hints, checks, clock, Metrics(self.registry, clock), limits)

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.registry.get_sample_value(f"bg_ingest_{name}", labels) or 0


class Follower:
    """Reads one stream and keeps its items."""

    def __init__(self) -> None:
        self.items: list[StreamItem] = []
        self.stream: ChangeStream
        self.resumed = anyio.Event()
        self.resumed.set()

    @property
    def numbers(self) -> list[int]:
        return [item.event.number for item in self.items if isinstance(item, EventOf)]

    @property
    def others(self) -> list[StreamItem]:
        """Return the items that are neither events nor heartbeats."""
        return [item for item in self.items if not isinstance(item, EventOf | Heartbeat)]

    def pause(self) -> anyio.Event:
        """Read no further item until the returned event is set."""
        self.resumed = anyio.Event()
        return self.resumed


class Hubs:
    """Replicas over one table. A commit goes through one of them, as the observer announces it."""

    def __init__(self, table: CountingTable, wrapped: Table, clock: LoopClock, group: TaskGroup) -> None:
        self.table, self.clock, self.group = table, clock, group
        self.wrapped = wrapped
        self.store, self._plain = Store(wrapped, clock), Store(table, clock)
        self.keys = ApiKeys(self._plain.keys, clock)
        self._exchange: list[MemoryHints] = []

    async def replica(
        self,
        limits: StreamLimits = DEFAULT_STREAM_LIMITS,
        verifier: TokenVerifier | None = None,
    ) -> HubReplica:
        replica = HubReplica(self.store, self.clock, FaultyHints(self._exchange), limits, verifier)
        await self.group.start(replica.hub)
        return replica

    async def commit(self, replica: HubReplica, user: UserId = ADA, *, announced: bool = True) -> int:
        """Commit one change; return its number."""
        head = await self._plain.readings.head(user)
        data = [ConnectionChanged("acme", ConnectionState.ACTIVE, None)]
        commit = Commit.of_changes(head, data, (head or Head(user)).next_recorded_at(self.clock.now()), user=user)
        if head is not None and head.erased:
            commit = msgspec.structs.replace(commit, head=msgspec.structs.replace(commit.head, erased=False))
        await self._plain.commits.write(commit)
        if announced:
            replica.hub.committed(commit.changes)
        return commit.head.last_change

    async def erase(self, replica: HubReplica, user: UserId = ADA) -> None:
        erasure = plan_erasure(user, await self._plain.readings.head(user), [], self.clock.now())
        await self._plain.erasures.begin(erasure)
        replica.hub.committed([erasure.change])
        await anyio.sleep(0.1)
        while await self._plain.erasures.delete_next(erasure.pending):
            pass

    @asynccontextmanager
    async def follow(
        self, replica: HubReplica, client: StreamClient = CLIENT, **after: int | None
    ) -> AsyncIterator[Follower]:
        """Follow users after their numbers until the end of the context."""
        follower, begun = Follower(), anyio.Event()

        async def run() -> None:
            cursors = {UserId(user): number for user, number in after.items()}
            with replica.hub.open(client, list(cursors)) as follower.stream:
                await replica.hub.begin(follower.stream, cursors)
                begun.set()
                async for item in follower.stream.items(anyio.sleep_forever):
                    follower.items.append(item)
                    await follower.resumed.wait()

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await begun.wait()
            yield follower
            group.cancel_scope.cancel()


@asynccontextmanager
async def open_hubs(around: Callable[[Table], Any] = lambda table: table) -> AsyncIterator[Hubs]:
    """Open an empty store. ``around`` wraps the table that the hubs read."""
    clock = LoopClock()
    async with open_table(None, clock) as plain, anyio.create_task_group() as group:
        table = CountingTable(plain)
        yield Hubs(table, around(cast("Table", table)), clock, group)
        group.cancel_scope.cancel()
