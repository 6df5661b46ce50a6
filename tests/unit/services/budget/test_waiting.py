"""Sizes of reservations, retry times, calls per poll, and pauses of the shared row: seen by others, and logged once."""

from collections.abc import AsyncIterator
from datetime import timedelta

import anyio
import pytest
from structlog.testing import capture_logs

from bg_ingest.adapters.sqlite import open_table
from bg_ingest.domain.call_budget import BudgetKey, ProviderLimit
from bg_ingest.errors import StaleRead
from bg_ingest.ports import Priority
from bg_ingest.services.budget.waiting import (
    MIN_RETRY_WAIT_SECONDS,
    RECHECK_SECONDS,
    CallsPerPoll,
    Permits,
    RetryTimes,
    SharedRow,
)
from bg_ingest.store import Store
from tests.conftest import on
from tests.fakes.faults import Fault, FaultyCalls
from tests.harness.service import LoopClock

anyio_backend = on("asyncio", "trio")

LIMIT = ProviderLimit(60_000)
APP = BudgetKey("acme", "our-app", "us")


@pytest.mark.parametrize(("size", "used", "expected"), [(4, 4, 8), (4, 3, 3), (4, 0, 1), (1, 1, 2)])
def test_the_next_reservation_is_twice_a_used_one_or_the_part_that_was_used(
    size: int, used: int, expected: int
) -> None:
    permits = Permits(size, valid_until=60.0)
    permits.remaining -= used
    assert permits.next_size == expected


async def test_retries_of_one_priority_are_spaced_at_its_rate() -> None:
    times = RetryTimes(LIMIT)
    waits = [times.next_wait(Priority.LIVE, 0.0).total_seconds() for _ in range(3)]
    spacing = 100 / (LIMIT.rate * Priority.LIVE)
    assert waits == pytest.approx([MIN_RETRY_WAIT_SECONDS + number * spacing for number in (1, 2, 3)])
    assert times.next_wait(Priority.REFRESH, 0.0).total_seconds() < waits[1]


async def test_no_retry_comes_before_the_end_of_a_pause() -> None:
    times = RetryTimes(LIMIT)
    assert times.next_wait(Priority.LIVE, 120.0).total_seconds() > 120
    await anyio.sleep(200)
    assert times.next_wait(Priority.LIVE, 0.0).total_seconds() < 2


def test_refreshes_count_towards_the_calls_per_poll() -> None:
    calls_per_poll = CallsPerPoll(ProviderLimit(6_000))
    expected = calls_per_poll.estimate
    assert expected == pytest.approx(1 + 1 / 8 + 1 / 96)
    assert CallsPerPoll(ProviderLimit(6_000), timedelta(minutes=1)).estimate == pytest.approx(1 + 1 / 120 + 1 / 1440)
    for _ in range(10_000):
        calls_per_poll.count(is_poll=True)
        calls_per_poll.count(is_poll=False)
    assert calls_per_poll.estimate == pytest.approx(2, rel=0.02)
    for _ in range(20_000):
        calls_per_poll.count(is_poll=True)
    assert calls_per_poll.estimate < 1.02, "old calls no longer count"


class RowWorld:
    """Views of one row, one per process."""

    def __init__(self, store: Store, clock: LoopClock) -> None:
        self.store, self.clock = store, clock

    def view(self) -> SharedRow:
        return SharedRow(APP, self.store.budgets, self.clock)

    def failing_view(self, error: type[Exception]) -> SharedRow:
        """Return a view whose writes fail with an error."""
        store = FaultyCalls(self.store.budgets, lambda _: Fault.BEFORE, error=error, only={"replace"})
        return SharedRow(APP, store, self.clock)


@pytest.fixture
async def world() -> AsyncIterator[RowWorld]:
    clock = LoopClock()
    async with open_table(None, clock) as table:
        yield RowWorld(Store(table, clock), clock)


async def test_a_pause_is_seen_by_another_process_that_reads_the_row(world: RowWorld) -> None:
    first, second = world.view(), world.view()
    await first.pause(anyio.current_time(), 120)
    assert not second.is_paused
    await second.read()
    assert second.is_paused
    assert second.pause_seconds == pytest.approx(120, abs=1)
    await anyio.sleep(121)
    assert not second.is_paused
    assert second.pause_seconds == 0


async def test_a_pause_that_cannot_be_written_holds_in_this_process(world: RowWorld) -> None:
    row = world.failing_view(StaleRead)
    await row.pause(anyio.current_time(), 120)
    assert row.is_paused
    assert await world.store.budgets.get(APP) is None


async def test_a_row_is_fresh_for_two_seconds_after_each_read(world: RowWorld) -> None:
    row = world.view()
    assert not row.is_fresh
    await row.read()
    assert row.is_fresh
    await anyio.sleep(RECHECK_SECONDS + 0.1)
    assert not row.is_fresh


async def test_the_time_of_the_row_never_falls(world: RowWorld) -> None:
    row = world.view()
    before = row.now()
    world.clock.skip(timedelta(hours=-1))
    await anyio.sleep(1)
    assert row.now() == before + 1_000_000


async def test_a_pause_and_its_end_are_logged_once(world: RowWorld) -> None:
    row = world.view()
    with capture_logs() as lines:
        await row.pause(anyio.current_time(), 120)
        await row.read()
        await anyio.sleep(200)
        await row.read()
        await row.read()
    assert [(line["action"], line["app"]) for line in lines] == [
        ("budget_paused", "acme/us"),
        ("budget_resumed", "acme/us"),
    ]
