"""Each operation once, through the whole service, on any table: computed units, and the units the server reports."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio
import msgspec

from bg_ingest.domain.ids import ConnectionId, UserId, shard_of
from bg_ingest.domain.polling import Outcome, PollReport, PollState
from bg_ingest.ports.table import Table
from bg_ingest.services.publishing.relay import CommittedChange
from bg_ingest.simulator import REPLAY_USER, SimulatorOptions
from tests.harness.service import PROVIDER, ServiceHarness, open_service
from tests.harness.webhook_sender import envelope, record
from tests.long.benchmarks.capacity import MeteredTable, MeteredTransport, Units
from tests.long.benchmarks.steady_sensor import CADENCE

ADA = ConnectionId(UserId("ada"), PROVIDER)
SHARD = shard_of(ADA.user)
DAYS_ASKED = (1, 14, 90)

POLLS_BEFORE = 20
"""Polls before the measured one, which extends a segment and is due between two refreshes of the grant.

A refresh happens every eight polls.
"""


class CostRow(msgspec.Struct, frozen=True):
    """An operation's units."""

    name: str
    used: Units
    """Computed."""
    reported: float
    """Write units reported by the server; 0 in memory."""


class OperationBench:
    """A runtime without any activity besides the operations requested here."""

    def __init__(self, service: ServiceHarness, asking: MeteredTransport | None = None) -> None:
        self.service = service
        self.rows: list[CostRow] = []
        self._asking = asking
        self._state = PollState()

    @property
    def metered(self) -> MeteredTable:
        assert isinstance(self.service.table, MeteredTable)
        return self.service.table

    @asynccontextmanager
    async def row(self, name: str) -> AsyncIterator[None]:
        """Measure the operations of the body."""
        used, result = self.metered.used, self._reported
        yield
        self.rows.append(CostRow(name, self.metered.used - used, self._reported - result))

    @property
    def _reported(self) -> float:
        return self._asking.reported_units if self._asking else 0.0

    async def poll(self, *, requested: bool = False) -> PollReport:
        report = await self.service.services.poller.poll(ADA, 1, self._state, requested=requested)
        self._state = report.state
        return report

    async def next_poll(self) -> PollReport:
        """Skip to the next slot and poll."""
        due = self._state.poll_at
        assert due is not None
        self.service.clock.skip(max(timedelta(0), due - self.service.clock.now()))
        return await self.poll()

    async def backfill(self) -> int:
        """Run the whole backfill; return the number of its readings."""
        stored = 0
        while (report := await self.poll()).due is not None and report.due <= self.service.clock.now():
            stored += report.result.recorded
        return stored + report.result.recorded

    async def publish(self, cached: Sequence[CommittedChange] = ()) -> int:
        """Publish what a commit hands to the relay of its own process; without it, what is read."""
        result = await self.service.services.relay.publish_shard(SHARD, {ADA.user: cached})
        return result.settled

    async def cached_changes(self) -> list[CommittedChange]:
        """Return the changes that a commit hands to the relay of its own process."""
        outbox = self.service.services.store.outbox
        changes = await outbox.changes(await outbox.list_waiting(SHARD, [ADA.user]))
        return [CommittedChange(change, anyio.current_time()) for change in changes.values()]

    async def get_range(self, days: int) -> int:
        """Request a range up to now; return the number of its readings."""
        now = self.service.clock.now()
        start = now - timedelta(days=days)
        answer = await self.service.api.get(f"/api/bg/{ADA.user}", params={"from": f"{start:%Y-%m-%dT%H:%M:%SZ}"})
        assert answer.status_code == 200
        return len(answer.json())


async def measure_operations(
    wearer: SimulatorOptions, table: Table | None = None, asking: MeteredTransport | None = None
) -> list[CostRow]:
    """Measure on a table, or in memory without one; ``asking`` is the client below that table."""
    async with open_service(over_http=True, simulated=wearer, table=table, around=MeteredTable) as service:
        bench = OperationBench(service, asking)
        await _connect_and_backfill(bench)
        await _poll(bench)
        await _push(bench)
        async with bench.row("worker settings changed"):
            path = f"/api/users/{ADA.user}/connections/{PROVIDER}/worker"
            answer = await service.api.patch(path, json={"poll_interval_seconds": 600})
            assert answer.status_code == 200
        await _read(bench)
        return bench.rows


async def _connect_and_backfill(bench: OperationBench) -> None:
    async with bench.row("connect, up to the callback's page"):
        await bench.service.connect(ADA.user, REPLAY_USER)
    await bench.publish()
    async with bench.row("90 days of backfill: 25,920 readings in 90 commits"):
        before = bench.metered.transactions
        stored = await bench.backfill()
        assert stored == 25_920, stored
        commits = bench.metered.transactions - before  # including the commits that record the progress of gap checks
        assert 90 <= commits <= 100, commits
    whole, share = bench.rows[-1], 1 / 90
    bench.rows.append(CostRow("of which a commit of 288 readings", whole.used.times(share), whole.reported * share))
    async with bench.row("publishing these 90 changes, read back"):
        result = await bench.publish()
        assert result == 90, result


async def _poll(bench: OperationBench) -> None:
    for _ in range(POLLS_BEFORE):
        await bench.next_poll()
    await bench.publish()
    async with bench.row("poll that brings 3 readings"):
        report = await bench.next_poll()
        assert report.result.recorded == 3, report
    cached = await bench.cached_changes()
    async with bench.row("publishing that change"):
        assert await bench.publish(cached) == 1
    async with bench.row("poll that brings nothing, the first"):
        report = await bench.poll(requested=True)
        assert report.result.outcome is Outcome.NOTHING_NEW
    async with bench.row("poll that brings nothing, any other within the hour"):
        await bench.poll(requested=True)
    connection, grant = await bench.service.services.store.connections.get_with_grant(ADA)
    assert connection is not None
    assert grant is not None
    async with bench.row("refresh of the grant"):
        await bench.service.services.grants.refresh(connection, grant)


async def _push(bench: OperationBench) -> None:
    connection = await bench.service.connection(ADA.user)
    pushed = envelope(connection.provider_account, [record(bench.service.clock.now() - CADENCE / 2)])
    async with bench.row("webhook with one reading"):
        answer = await bench.service.push(ADA.user, pushed)
        assert answer.json()["stored"] == 1, answer.text
    async with bench.row("the same webhook again"):
        await bench.service.push(ADA.user, pushed)


async def _read(bench: OperationBench) -> None:
    async with bench.row("latest"):
        answer = await bench.service.api.get(f"/api/bg/{ADA.user}/latest")
        assert answer.status_code == 200
    for days in DAYS_ASKED:
        async with bench.row(f"range of {days} day{'s' * (days > 1)}"):
            found = await bench.get_range(days)
            assert found >= days * 287, found
