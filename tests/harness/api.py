"""API over a counted store in memory, without provider or actors."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import httpx
from litestar import Litestar

from bg_ingest.adapters.sealing import AesGcmSealer
from bg_ingest.adapters.sqlite import open_table
from bg_ingest.api.auth import Access
from bg_ingest.domain.call_budget import ProviderLimit
from bg_ingest.domain.commits import Commit, ConnectionSummary, Head, readings_commit, with_summary
from bg_ingest.domain.connections import ConnectionState, PollDefaults
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.readings import Device, Flag, Origin, Reading
from bg_ingest.domain.replica_status import ReplicaStatus
from bg_ingest.domain.segments import decide, segment_start, split_batch
from bg_ingest.domain.timeline import NextPoll
from bg_ingest.observability.observer import Metrics
from bg_ingest.observability.registry import MetricsRegistry
from bg_ingest.ports import Provider
from bg_ingest.store import Store
from bg_ingest.wiring import build_services
from bg_ingest.wiring.broker import embedded_broker
from tests.fakes.clock import NOON, SetClock
from tests.fakes.counting_table import CountingTable
from tests.harness.hygiene import check_answer
from tests.harness.shared_apps import borrow_api
from workers.build import Workers

ADA = UserId("ada")
DEVICE = Device("acme", "account-1", "ab" * 32, "iOS", "g7")
FIVE_MINUTES = timedelta(minutes=5)


class FakeProcessHealth:
    """Process health with answers set by a test."""

    def __init__(self) -> None:
        self.unready_answer: list[str] = []
        self.degraded_answer: list[str] = []
        self.status_answer: ReplicaStatus | None = None

    def unready_reasons(self) -> Sequence[str]:
        return self.unready_answer

    def degraded_parts(self) -> Sequence[str]:
        return self.degraded_answer

    def status(self) -> ReplicaStatus | None:
        return self.status_answer

    def next_poll(self, connection: ConnectionId) -> NextPoll | None:
        return None


class ApiHarness:
    """API as seen by a client, with its store, its call counts and its clock."""

    def __init__(self, table: CountingTable, clock: SetClock, providers: dict[str, Provider]) -> None:
        self.table = table
        self.clock = clock
        self.process_health = FakeProcessHealth()
        self.store: Store = Store(table, clock)
        self.metrics = MetricsRegistry()
        self.services = build_services(
            self.store,
            embedded_broker(),
            providers,
            metrics=Metrics(self.metrics, clock),
            sealer=AesGcmSealer([bytes(32)]),
            clock=clock,
            wakeups=Workers(),
            defaults=PollDefaults(),
            limit=ProviderLimit(60_000),
            table="test",
        )
        self.app: Litestar
        self.http: httpx.AsyncClient

    @asynccontextmanager
    async def open(self, access: Access) -> AsyncIterator[None]:
        """Open the client of the API."""
        with borrow_api(
            self.services,
            self.metrics,
            access=access,
            process_health=self.process_health,
            own_names=["ingest.test"],
        ) as self.app:
            # A real server answers an exception of the application itself; here the answer that it began counts.
            transport = httpx.ASGITransport(app=cast("Any", self.app), raise_app_exceptions=False)
            hooks = {"response": [check_answer]}
            self.http = httpx.AsyncClient(transport=transport, base_url="http://ingest.test", event_hooks=hooks)
            async with self.http:
                yield

    def replace_services(self, **changes: Any) -> None:
        """Replace some services."""
        self.services = self.app.state.services = replace(self.services, **changes)

    async def add_connection(
        self, state: ConnectionState = ConnectionState.ACTIVE, provider: str = "acme", user: UserId = ADA
    ) -> None:
        """Store a head of a user with a sensor of 5 minutes that is polled at the same interval."""
        before = await self.store.readings.head(user)
        head = with_summary(before or Head(user), provider, ConnectionSummary(state, 300, 0, 300))
        await self.store.commits.write(Commit(before=before, head=head))

    async def add_readings(self, *readings: Reading, user: UserId = ADA) -> None:
        """Store readings of a user as a poll does. Without a head, an active connection is added first."""
        if await self.store.readings.head(user) is None:
            await self.add_connection(user=user)
        for part in split_batch(readings):
            head, known, _ = await self.store.readings.read(user, {segment_start(each.measured_at) for each in part})
            assert head is not None
            at = head.next_recorded_at(self.clock.now())
            decision = decide(known, part, at=at, last_change=head.last_change)
            commit = readings_commit(head, known, decision, provider="acme", origin=Origin.LIVE, at=at)
            await self.store.commits.write(commit)


def reading(number: int, value: int = 110, **others: Any) -> Reading:
    """Return the reading of a number of five-minute slots after noon."""
    return Reading(NOON + number * FIVE_MINUTES, value, Flag.OK, DEVICE, **others)


@asynccontextmanager
async def open_api(access: Access = Access.OPEN, **providers: Provider) -> AsyncIterator[ApiHarness]:
    clock = SetClock()
    async with open_table(None, clock) as plain:
        harness = ApiHarness(CountingTable(plain), clock, providers)
        await harness.services.authenticator.is_open()  # cached for a while
        harness.table.reads = 0
        async with harness.open(access):
            yield harness
