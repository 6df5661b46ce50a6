import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, cast

import anyio
import pytest

from bg_ingest.domain.ids import SHARDS, ConnectionId, UserId, shard_of
from bg_ingest.domain.polling import Outcome, PollReport, PollResult, PollState
from tests.fakes.poll_listener import RecordingListener, lasting_view
from tests.harness.service import LoopClock
from workers.handover import OwnershipView
from workers.scheduler import MAX_CONCURRENT_POLLS, Scheduler
from workers.supervisor import Backoff

ADA, BEN = ConnectionId(UserId("ada"), "dexcom"), ConnectionId(UserId("ben"), "dexcom")
SECOND = timedelta(seconds=1)
EVERY_SHARD = range(SHARDS)
EXACT = Backoff(first=5, ceiling=40, jitter=lambda low, high: high)


class ScriptedPolls:
    """Polls every 60 s, scripted by the test; ``taken`` has (seconds, connection, requested)."""

    def __init__(self, clock: LoopClock) -> None:
        self.clock = clock
        self.started = clock.now()
        self.taken: list[tuple[float, ConnectionId, bool]] = []
        self.does: dict[ConnectionId, Callable[[], Awaitable[None]]] = {}
        self.over: set[ConnectionId] = set()
        self.inside: dict[ConnectionId, int] = {}
        self.most_inside = 0

    async def poll(
        self, connection_id: ConnectionId, epoch: int, state: PollState, *, requested: bool = False
    ) -> PollReport:
        assert epoch == 7
        seconds = (self.clock.now() - self.started).total_seconds()
        self.taken.append((round(seconds, 3), connection_id, requested))
        self.inside[connection_id] = self.inside.get(connection_id, 0) + 1
        self.most_inside = max(self.most_inside, *self.inside.values())
        try:
            if connection_id in self.does:
                await self.does[connection_id]()
        finally:
            self.inside[connection_id] -= 1
        due = None if connection_id in self.over else self.clock.now() + 60 * SECOND
        return PollReport(PollResult(Outcome.READ), due, PollState(failures=state.failures + 1))

    def of(self, connection: ConnectionId) -> list[float]:
        return [seconds for seconds, whose, _ in self.taken if whose == connection]


@asynccontextmanager
async def open_scheduler(
    at_once: int = MAX_CONCURRENT_POLLS, view: OwnershipView | None = None
) -> AsyncIterator[tuple[Scheduler, ScriptedPolls]]:
    clock = LoopClock()
    polls = ScriptedPolls(clock)
    scheduler = Scheduler(
        cast("Any", polls), clock, view or lasting_view(), RecordingListener(), max_concurrent=at_once, backoff=EXACT
    )
    async with anyio.create_task_group() as group:
        await group.start(scheduler)
        yield scheduler, polls
        group.cancel_scope.cancel()


async def test_polls_run_when_due() -> None:
    async with open_scheduler() as (scheduler, polls):
        scheduler.schedule(ADA, epoch=7, due=polls.clock.now() + 5 * SECOND)
        scheduler.schedule(BEN, epoch=7, due=polls.clock.now() + 100 * SECOND)
        await anyio.sleep(170)
        assert polls.of(ADA) == [5, 65, 125]
        assert polls.of(BEN) == [100, 160]


async def test_a_hint_causes_a_poll_at_once_also_for_a_connection_that_was_not_scheduled() -> None:
    async with open_scheduler() as (scheduler, polls):
        scheduler.schedule(ADA, epoch=7, due=polls.clock.now() + 50 * SECOND)
        await anyio.sleep(10)
        scheduler.request_poll(ADA, epoch=7)
        scheduler.request_poll(BEN, epoch=7)
        await anyio.sleep(61)
        assert polls.taken == [(10, ADA, True), (10, BEN, True), (70, ADA, False), (70, BEN, False)]


async def test_a_connection_never_has_two_polls_at_once() -> None:
    async with open_scheduler() as (scheduler, polls):
        polls.does[ADA] = lambda: anyio.sleep(7)
        scheduler.request_poll(ADA, epoch=7)
        for _ in range(10):
            await anyio.sleep(1)
            scheduler.request_poll(ADA, epoch=7)
        await anyio.sleep(30)
        assert polls.most_inside == 1
        assert polls.of(ADA) == [0, 10], "requests during a poll cause one more"


async def test_s6_requests_in_a_loop_cause_a_poll_every_ten_seconds_and_delay_no_due_one() -> None:
    async with open_scheduler() as (scheduler, polls):
        scheduler.schedule(ADA, epoch=7, due=polls.clock.now() + 25 * SECOND)
        for _ in range(400):
            scheduler.request_poll(ADA, epoch=7)
            scheduler.request_poll(BEN, epoch=7)
            await anyio.sleep(0.1)
        assert polls.of(ADA) == [0, 10, 20, 30]
        assert polls.of(BEN) == [0, 10, 20, 30]
        await anyio.sleep(100)
        assert polls.of(ADA) == [0, 10, 20, 30, 40, 100], "the last request is not lost"


async def test_s6_a_request_does_not_move_a_poll_that_is_due_sooner() -> None:
    async with open_scheduler() as (scheduler, polls):
        scheduler.request_poll(ADA, epoch=7)
        await anyio.sleep(58)
        scheduler.request_poll(ADA, epoch=7)
        await anyio.sleep(1)
        scheduler.request_poll(ADA, epoch=7)
        await anyio.sleep(20)
        assert polls.of(ADA) == [0, 58, 68]


async def test_a_crash_delays_its_own_connection_alone_and_longer_each_time(caplog: pytest.LogCaptureFixture) -> None:
    async def crash() -> None:
        raise ZeroDivisionError

    async with open_scheduler() as (scheduler, polls):
        polls.does[ADA] = crash
        scheduler.request_poll(ADA, epoch=7)
        scheduler.request_poll(BEN, epoch=7)
        await anyio.sleep(121)
        assert polls.of(ADA) == [0, 5, 15, 35, 75, 115]
        assert polls.of(BEN) == [0, 60, 120]


async def test_a_connection_without_a_next_poll_is_forgotten_until_a_hint() -> None:
    async with open_scheduler() as (scheduler, polls):
        polls.over.add(ADA)
        scheduler.request_poll(ADA, epoch=7)
        await anyio.sleep(1000)
        assert polls.of(ADA) == [0]
        assert not scheduler.scheduled
        polls.over.clear()
        scheduler.request_poll(ADA, epoch=7)
        await anyio.sleep(61)
        assert polls.of(ADA) == [0, 1000, 1060]


async def test_case_39_hanging_polls_delay_no_other_while_there_are_slots() -> None:
    async with open_scheduler() as (scheduler, polls):
        for number in range(MAX_CONCURRENT_POLLS - 1):
            hanging = ConnectionId(UserId(f"u{number}"), "dexcom")
            polls.does[hanging] = anyio.sleep_forever
            scheduler.request_poll(hanging, epoch=7)
        scheduler.schedule(BEN, epoch=7, due=polls.clock.now() + SECOND)
        await anyio.sleep(200)
        assert polls.of(BEN) == [1, 61, 121, 181]


async def test_case_39_when_every_slot_hangs_others_wait_until_the_first_call_is_given_up() -> None:
    async with open_scheduler(at_once=2) as (scheduler, polls):
        given_up = 120.0  # by the provider's client
        for name in ("ada", "cleo"):
            hanging = ConnectionId(UserId(name), "dexcom")
            polls.does[hanging] = lambda: anyio.sleep(given_up)
            scheduler.request_poll(hanging, epoch=7)
        scheduler.schedule(BEN, epoch=7, due=polls.clock.now() + SECOND)
        await anyio.sleep(given_up + 1)
        assert polls.of(BEN) == [120]


async def test_no_more_polls_run_at_once_than_there_are_slots() -> None:
    async with open_scheduler(at_once=3) as (scheduler, polls):
        running = most = 0

        async def run() -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await anyio.sleep(10)
            running -= 1

        for number in range(9):
            connection = ConnectionId(UserId(f"u{number}"), "dexcom")
            polls.does[connection] = run
            scheduler.request_poll(connection, epoch=7)
        await anyio.sleep(31)
        assert most == 3
        assert len(polls.taken) == 9


async def test_the_state_of_one_poll_is_given_to_the_next() -> None:
    async with open_scheduler() as (scheduler, polls):
        scheduler.request_poll(ADA, epoch=7)
        await anyio.sleep(121)
        assert scheduler.scheduled[ADA].poll_state == PollState(failures=len(polls.taken))


async def test_shards_that_are_released_let_polls_finish_for_two_seconds_then_cancel_them() -> None:
    async with open_scheduler() as (scheduler, polls):
        ended: list[str] = []

        async def quick() -> None:
            await anyio.sleep(1)
            ended.append("quick")

        async def slow() -> None:
            await anyio.sleep(50)
            ended.append("slow")

        polls.does = {ADA: quick, BEN: slow}
        scheduler.request_poll(ADA, epoch=7)
        scheduler.request_poll(BEN, epoch=7)
        await anyio.sleep(0.5)
        began = anyio.current_time()
        await scheduler.finish(EVERY_SHARD)
        assert anyio.current_time() - began == pytest.approx(2, abs=0.01)
        await anyio.sleep(200)
        assert ended == ["quick"]
        assert len(polls.taken) == 2


async def test_a_quiet_shard_rests_at_once() -> None:
    async with open_scheduler() as (scheduler, polls):
        scheduler.schedule(ADA, epoch=7, due=polls.clock.now() + 50 * SECOND)
        began = anyio.current_time()
        await scheduler.finish(EVERY_SHARD)
        assert anyio.current_time() == began
        await anyio.sleep(100)
        assert not polls.taken


async def test_a_shard_that_was_lost_is_left_at_once_and_the_others_go_on() -> None:
    async with open_scheduler() as (scheduler, polls):
        ended: list[str] = []

        async def slow() -> None:
            await anyio.sleep(1)
            ended.append("slow")

        polls.does = {ADA: slow}
        scheduler.request_poll(ADA, epoch=7)
        scheduler.request_poll(BEN, epoch=7)
        await anyio.sleep(0.5)
        scheduler.cancel([shard_of(ADA.user)])
        await anyio.sleep(61)
        assert not ended
        assert [connection for _, connection, _ in polls.taken] == [ADA, BEN, BEN]


async def test_a_shard_is_idle_only_when_a_cancelled_poll_has_stored_its_grant() -> None:
    async with open_scheduler() as (scheduler, polls):
        stored: list[float] = []

        async def refresh() -> None:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(7)
                stored.append(anyio.current_time())

        polls.does = {ADA: refresh}
        scheduler.request_poll(ADA, epoch=7)
        await anyio.sleep(1)
        scheduler.cancel([shard_of(ADA.user)])
        await scheduler.wait_idle(shard_of(ADA.user))
        assert stored == [anyio.current_time()]


async def test_no_poll_begins_while_ownership_is_uncertain() -> None:
    view = OwnershipView(valid_for=12.0)
    async with open_scheduler(view=view) as (scheduler, polls):
        scheduler.schedule(ADA, epoch=7, due=polls.clock.now() + 5 * SECOND)
        await anyio.sleep(40)
        assert not polls.taken
        view.heartbeat_sent_at = float("inf")
        await anyio.sleep(30)
        assert polls.taken[0][1] == ADA


async def test_a_clock_set_back_by_hours_delays_no_poll_by_hours() -> None:
    async with open_scheduler() as (scheduler, polls):
        scheduler.request_poll(ADA, epoch=7)
        await anyio.sleep(45)
        polls.clock.skip(timedelta(hours=-3))
        before = len(polls.taken)
        await anyio.sleep(120)
        assert len(polls.taken) - before in (2, 3)


async def test_a_requested_poll_that_crashed_is_still_requested() -> None:
    async def crash() -> None:
        raise ZeroDivisionError

    async with open_scheduler() as (scheduler, polls):
        polls.does[ADA] = crash
        scheduler.request_poll(ADA, epoch=7)
        await anyio.sleep(1)
        del polls.does[ADA]
        await anyio.sleep(5)
        assert polls.taken == [(0, ADA, True), (5, ADA, True)]


@pytest.mark.slow
async def test_many_scheduled_connections_give_the_garbage_collector_no_work() -> None:
    async with open_scheduler() as (scheduler, polls):
        gc.collect(1)
        for number in range(5_000):
            connection = ConnectionId(UserId(f"user-{number}"), "dexcom")
            scheduler.schedule(connection, epoch=7, due=polls.clock.now() + 60 * SECOND)
        gc.collect(0)  # drops objects that are exempt from collection
        assert len(scheduler.scheduled) == 5_000
        assert len(gc.get_objects(generation=1)) < 5_000 / 2
