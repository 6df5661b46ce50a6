"""A requested poll runs once, through failures, hand-overs and deaths of owners."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, cast

import anyio
import pytest

from bg_ingest.adapters.sqlite import open_table
from bg_ingest.domain.ids import ConnectionId, UserId, shard_of
from bg_ingest.domain.ownership import Owner
from bg_ingest.domain.polling import Outcome, PollReport, PollResult, PollState
from bg_ingest.ports import Observer
from bg_ingest.ports.table import Table
from bg_ingest.services.publishing.relay import Relay
from bg_ingest.store import Store
from bg_ingest.store.inbox import OwnerRequest
from tests.fakes.faults import Fault, FaultyCalls
from tests.fakes.poll_listener import RecordingListener
from tests.harness.service import LoopClock
from workers.handover import OwnershipView
from workers.inbox import InboxReader, PollRequests
from workers.relay import RelayActor
from workers.scheduler import Scheduler

ADA = ConnectionId(UserId("ada"), "acme")
SHARD = shard_of(ADA.user)
INTERVAL_SECONDS = 4.0
DAY = timedelta(days=1)


class ScriptedPolls:
    """Daily polls with an outcome and a length set by the test; each is recorded."""

    def __init__(self, clock: LoopClock) -> None:
        self.clock = clock
        self.outcome = Outcome.READ
        self.seconds = 0.0
        self.requested_flags: list[bool] = []

    async def poll(
        self, connection_id: ConnectionId, epoch: int, state: PollState, *, requested: bool = False
    ) -> PollReport:
        await anyio.sleep(self.seconds)
        self.requested_flags.append(requested)
        again = timedelta(seconds=10) if self.outcome is Outcome.UNAVAILABLE else DAY
        due = None if self.outcome is Outcome.REFUSED else self.clock.now() + again
        return PollReport(PollResult(self.outcome), due)


class InboxProcess:
    """A process that reads its inbox for the shards it owns."""

    def __init__(self, name: str, table: Any, clock: LoopClock) -> None:
        self.name = name
        self.store = Store(table, clock)
        self.fails = False
        self.polls = ScriptedPolls(clock)
        self.view = OwnershipView(valid_for=float("inf"), owner=Owner(name), heartbeat_sent_at=0.0)
        poll_requests = PollRequests()
        self.scheduler = Scheduler(cast("Any", self.polls), clock, self.view, RecordingListener(poll_requests.finish))
        requests = FaultyCalls(self.store.inbox, lambda _: Fault.BEFORE if self.fails else None, only={"delete"})
        self.readings = FaultyCalls(cast("Any", requests), lambda _: None, only={"list_requests"})
        nothing: Any = None
        self.reader = InboxReader(
            cast("Any", self.readings),
            self.scheduler,
            RelayActor(Relay(self.store.outbox, nothing, Observer())),
            ownership=self.view,
            poll_requests=poll_requests,
            is_loaded=lambda shard: shard in self.view.serving,
            interval=INTERVAL_SECONDS,
        )

    async def take(self) -> None:
        board = await self.store.ownership.snapshot()
        taken = await self.store.ownership.take([board.leases[SHARD]], self.name)
        self.view.serving[SHARD] = taken[0]
        self.reader.inherit(taken)

    async def release(self) -> None:
        """Finish the polls and release the shard, as in a hand-over."""
        epoch = self.view.serving.pop(SHARD).epoch
        await self.scheduler.finish([SHARD])
        lease = (await self.store.ownership.snapshot()).leases[SHARD]
        assert lease.epoch == epoch
        await self.store.ownership.release([lease])

    async def list_requests(self) -> list[OwnerRequest]:
        return await self.store.inbox.list_requests(self.name)


@asynccontextmanager
async def processes(*names: str) -> AsyncIterator[list[InboxProcess]]:
    clock = LoopClock()
    async with open_table(None, clock) as table, anyio.create_task_group() as group:
        found = [InboxProcess(name, cast("Table", table), clock) for name in names]
        for each in found:
            await each.store.ownership.register(Owner(each.name))
            await group.start(each.scheduler)
            await group.start(each.reader)
        yield found
        group.cancel_scope.cancel()


async def request_poll(process: InboxProcess) -> None:
    """Request a poll as the API of the process does."""
    await process.store.inbox.request_poll(ADA)
    process.reader.wake()
    await anyio.sleep(0.5)


async def test_a_request_stays_until_its_poll_has_run() -> None:
    async with processes("a") as [a]:
        await a.take()
        a.polls.outcome = Outcome.UNAVAILABLE
        await request_poll(a)
        await anyio.sleep(60)
        assert len(a.polls.requested_flags) == 7
        assert a.polls.requested_flags[:2] == [True, False], "one request causes one poll"
        assert len(await a.list_requests()) == 1
        a.polls.outcome = Outcome.READ
        await anyio.sleep(10 + INTERVAL_SECONDS)
        assert len(a.polls.requested_flags) == 8
        assert not await a.list_requests()


async def test_of_many_requests_for_one_poll_one_stays() -> None:
    async with processes("a") as [a]:
        await a.take()
        a.polls.seconds = 60
        for _ in range(20):
            await request_poll(a)
        assert len(await a.list_requests()) == 1
        await anyio.sleep(200)
        assert a.polls.requested_flags == [True, True], (
            "one poll that was running, and one that began after the last request"
        )
        assert not await a.list_requests()


async def test_a_requested_poll_runs_once_though_its_request_cannot_be_deleted_for_long() -> None:
    async with processes("a") as [a]:
        await a.take()
        a.fails = True
        await request_poll(a)
        await anyio.sleep(300)
        assert a.polls.requested_flags == [True]
        await request_poll(a)
        await anyio.sleep(2 * INTERVAL_SECONDS)
        assert a.polls.requested_flags == [True, True], "a request during the poll is served"
        a.fails = False
        await anyio.sleep(2 * INTERVAL_SECONDS)
        assert a.polls.requested_flags == [True, True]
        assert not await a.list_requests()


async def test_a_request_for_a_connection_without_a_grant_is_deleted() -> None:
    async with processes("a") as [a]:
        await a.take()
        a.polls.outcome = Outcome.REFUSED
        await request_poll(a)
        await anyio.sleep(2 * INTERVAL_SECONDS)
        assert a.polls.requested_flags == [True]
        assert not await a.list_requests()


async def test_a_requested_poll_outlasts_any_number_of_hand_overs() -> None:
    async with processes("a", "b", "c") as [a, b, c]:
        await a.take()
        for each in (a, b):
            each.polls.outcome = Outcome.BUDGET_SPENT
        await request_poll(a)
        for before, after in ((a, b), (b, c)):
            await before.release()
            await after.take()
            await anyio.sleep(2)
        assert c.polls.requested_flags == [True]
        await anyio.sleep(2 * INTERVAL_SECONDS)
        assert not [request for each in (a, b, c) for request in await each.list_requests()]


@pytest.mark.slow
async def test_a_process_that_takes_its_own_shard_again_reads_the_inbox_no_more_often() -> None:
    async with processes("a") as [a]:
        await a.take()
        a.polls.outcome = Outcome.BUDGET_SPENT
        await request_poll(a)
        await a.release()
        await a.take()
        before = a.readings.calls
        await anyio.sleep(10)
        assert a.readings.calls - before < 25
        assert len(await a.list_requests()) == 1


async def test_a_poll_requested_while_another_finishes_is_run_by_the_next_owner() -> None:
    async with processes("a", "b") as [a, b]:
        await a.take()
        a.polls.seconds = 1.5
        a.scheduler.request_poll(ADA, epoch=a.view.serving[SHARD].epoch)
        await anyio.sleep(0.5)
        await request_poll(a)  # during a poll that began before the request
        await a.release()
        assert a.polls.requested_flags == [True]
        await b.take()
        await anyio.sleep(2 * INTERVAL_SECONDS)
        assert b.polls.requested_flags == [True]


async def test_a_killed_process_leaves_its_requested_polls_to_the_next_owner() -> None:
    async with processes("a", "b") as [a, b]:
        await a.take()
        a.polls.seconds = 1e6
        await request_poll(a)
        a.view.serving.clear()
        a.view.owner = None  # does not read its inbox any more
        await a.store.ownership.remove_dead(Owner("a"))
        await b.take()
        await anyio.sleep(2)
        assert b.polls.requested_flags == [True]
