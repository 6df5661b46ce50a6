"""Order of reserved calls: by priority, then by arrival, over all processes on one row."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, cast

import anyio
import pytest

from bg_ingest.adapters.sqlite import open_table
from bg_ingest.domain.call_budget import RESERVATION_SECONDS, BudgetKey, ProviderLimit
from bg_ingest.errors import BudgetSpent, StoreUnavailable
from bg_ingest.ports import Clock, Priority
from bg_ingest.services.budget.limiter import MAX_WAIT_SECONDS, MAX_WAITING_LOW, CallLimiter
from bg_ingest.services.budget.waiting import DEFAULT_POLL_INTERVAL, RECHECK_SECONDS
from bg_ingest.store import Store
from bg_ingest.store.call_budget import CallBudgetStore
from tests.conftest import on
from tests.fakes.counting_table import CountingTable
from tests.fakes.faults import CallWrapper, Fault, FaultyCalls, every
from tests.harness.service import LoopClock

anyio_backend = on("asyncio", "trio")


APP = BudgetKey("acme", "our-app", "us")
LIMIT = ProviderLimit(60_000)
BACKFILL, LIVE, REFRESH = Priority.BACKFILL, Priority.LIVE, Priority.REFRESH


class ShiftedClock:
    """Clock with an offset."""

    def __init__(self, clock: Clock, by: timedelta) -> None:
        self._clock = clock
        self._by = by

    def now(self) -> object:
        return self._clock.now() + self._by


class RowUsers:
    """One row, and processes that share it."""

    def __init__(self, table: CountingTable, clock: LoopClock) -> None:
        self.table = table
        self.clock = clock
        self.budgets: CallBudgetStore = Store(table, clock).budgets

    def limiter(
        self, limit: ProviderLimit = LIMIT, *, ahead: float = 0, budgets: CallBudgetStore | None = None
    ) -> CallLimiter:
        clock = ShiftedClock(self.clock, timedelta(seconds=ahead))
        return CallLimiter(APP, limit, budgets or self.budgets, clock, DEFAULT_POLL_INTERVAL)  # type: ignore[arg-type]


@pytest.fixture
async def row() -> AsyncIterator[RowUsers]:
    clock = LoopClock()
    async with open_table(None, clock) as memory:
        yield RowUsers(CountingTable(memory), clock)


async def acquire_and_note(limiter: CallLimiter, priority: Priority, times: dict[str, float], name: str) -> None:
    await limiter.acquire(priority)
    times[name] = anyio.current_time()


async def test_many_calls_cost_one_read_and_one_write_each_few(row: RowUsers) -> None:
    limiter = row.limiter()
    began = anyio.current_time()
    for _ in range(1000):
        await limiter.acquire(LIVE)
    seconds = anyio.current_time() - began
    assert 1000 / seconds == pytest.approx(LIMIT.rate, rel=0.03)
    assert row.table.writes <= 1000 / 3.5
    assert row.table.reads <= 2.5 * row.table.writes


async def test_who_calls_now_and_then_writes_at_most_once_a_minute_and_who_does_not_never(row: RowUsers) -> None:
    limiter = row.limiter()
    for _ in range(60):
        await limiter.acquire(LIVE)
        await anyio.sleep(10)
    assert row.table.writes <= 600 / RESERVATION_SECONDS + 5
    before = row.table.asked
    await anyio.sleep(3600)
    assert row.table.asked == before


async def test_calls_taken_in_advance_are_not_used_after_their_lifetime(row: RowUsers) -> None:
    limiter = row.limiter()
    for _ in range(4):
        await limiter.acquire(LIVE)
    bought = row.table.writes
    assert bought == 3, "1, 2 and 4 calls: of the last, three are left"
    await anyio.sleep(RESERVATION_SECONDS - 1)
    await limiter.acquire(LIVE)
    assert row.table.writes == bought, "reserved calls are still valid"
    await anyio.sleep(2)
    await limiter.acquire(LIVE)
    assert row.table.writes == bought + 1


async def test_after_a_rest_no_call_waits(row: RowUsers) -> None:
    limiter = row.limiter()
    began = anyio.current_time()
    async with anyio.create_task_group() as group:
        for _ in range(LIMIT.ceiling(LIVE)):
            group.start_soon(limiter.acquire, LIVE)
    assert anyio.current_time() == began


async def test_the_higher_priority_has_the_next_call_and_of_one_priority_who_came_first(row: RowUsers) -> None:
    limiter, times = row.limiter(), dict[str, float]()
    for _ in range(LIMIT.ceiling(REFRESH)):
        await limiter.acquire(REFRESH)
    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(acquire_and_note, limiter, BACKFILL, times, f"past {number}")
            await anyio.sleep(0.001)
        for number in range(12):
            group.start_soon(acquire_and_note, limiter, LIVE, times, f"live {number}")
            await anyio.sleep(0.001)
        group.start_soon(acquire_and_note, limiter, REFRESH, times, "refresh")
    order = ["refresh", *(f"live {number}" for number in range(12)), *(f"past {number}" for number in range(3))]
    assert [times[name] for name in order] == sorted(times.values())
    assert len(set(times.values())) > 3


async def test_backfill_of_one_process_does_not_keep_anothers_polls_waiting(row: RowUsers) -> None:
    past, live, over = row.limiter(), row.limiter(), anyio.Event()

    async def read_past() -> None:
        while not over.is_set():
            try:
                await past.acquire(BACKFILL)
            except BudgetSpent as spent:
                await anyio.sleep(spent.wait.total_seconds())

    waits = []
    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(read_past)
        for _ in range(300):
            await anyio.sleep(0.1)
            began = anyio.current_time()
            await live.acquire(LIVE)
            waits.append(anyio.current_time() - began)
        over.set()
    assert max(waits) < 1
    assert sum(waits) / len(waits) < 0.1
    assert past.granted > 0.8 * (30 * LIMIT.rate - 300), "the backfill gets the calls that the polls leave"


@pytest.mark.slow
async def test_processes_that_need_calls_all_the_time_have_as_many_each(row: RowUsers) -> None:
    limiters = [row.limiter(ahead=ahead) for ahead in (0, 0, 0, 60, -60)]
    with anyio.move_on_after(300):
        async with anyio.create_task_group() as group:
            for limiter in limiters:
                for _ in range(20):
                    group.start_soon(call_repeatedly, limiter)
    given = [limiter.granted for limiter in limiters]
    assert sum(given) == pytest.approx(300 * LIMIT.rate, rel=0.05)
    # the next reservation is random: of some thousand calls each, a tenth more or less is chance
    assert max(given) < 1.6 * min(given)


@pytest.mark.slow
@pytest.mark.parametrize(("answers_after", "least"), [((0.006, 0.006, 0.006), 0.7), ((0.006, 0.006, 0.03), 0.4)])
async def test_no_process_goes_short_for_long_even_with_a_slower_store(
    row: RowUsers, answers_after: Sequence[float], least: float
) -> None:
    limit = ProviderLimit(200_000)
    limiters = [row.limiter(limit, budgets=cast("Any", SlowBudgets(row.budgets, after))) for after in answers_after]
    shares: list[list[float]] = []
    with anyio.move_on_after(60):
        async with anyio.create_task_group() as group:
            for limiter in limiters:
                for _ in range(100):
                    group.start_soon(call_repeatedly, limiter)
            while True:
                before = [limiter.granted for limiter in limiters]
                await anyio.sleep(5)
                had = [limiter.granted - count for limiter, count in zip(limiters, before, strict=True)]
                shares.append([len(limiters) * each / sum(had) for each in had])
    assert min(min(each) for each in shares[2:]) > least
    assert sum(limiter.granted for limiter in limiters) == pytest.approx(60 * limit.rate, rel=0.05)


class SlowBudgets(CallWrapper):
    """Store with slow answers."""

    def __init__(self, inner: CallBudgetStore, after: float) -> None:
        super().__init__(inner)
        self._after = after

    async def _around(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        await anyio.sleep(self._after / 2)
        answer = await call()
        await anyio.sleep(self._after / 2)
        return answer


async def call_repeatedly(limiter: CallLimiter) -> None:
    while True:
        with suppress(BudgetSpent):
            await limiter.acquire(LIVE)


async def test_case_36_a_pause_stops_all_processes_also_with_reserved_calls(row: RowUsers) -> None:
    first, second = row.limiter(), row.limiter()
    for limiter in (first, second):
        for _ in range(4):
            await limiter.acquire(LIVE)
    assert row.table.writes == 6, "1, 2 and 4 calls each: of the last, three are left"
    refused_at = anyio.current_time()
    assert await first.pause(refused_at, 120) == 120
    await anyio.sleep(RECHECK_SECONDS + 0.1)
    for limiter in (first, second):
        with pytest.raises(BudgetSpent) as spent:
            await limiter.acquire(REFRESH)
        assert spent.value.wait.total_seconds() > 120 - RECHECK_SECONDS - 1
    await anyio.sleep_until(refused_at + 120.1)
    await second.acquire(LIVE)
    await first.acquire(LIVE)


async def test_a_waiting_caller_is_given_the_time_to_return_when_a_pause_begins(row: RowUsers) -> None:
    limiter, others = row.limiter(ProviderLimit(400)), row.limiter(ProviderLimit(400))
    for _ in range(4):
        await limiter.acquire(REFRESH)
    began = anyio.current_time()
    async with anyio.create_task_group() as group:
        group.start_soon(others.pause, began, 600)
        with pytest.raises(BudgetSpent) as spent:
            await limiter.acquire(LIVE)
    assert spent.value.wait.total_seconds() > 560
    assert anyio.current_time() - began < 40


async def test_case_37_after_a_pause_they_come_back_one_after_the_other(row: RowUsers) -> None:
    limiter = row.limiter()
    await limiter.pause(anyio.current_time(), 300)
    waits = []
    for _ in range(100):
        with pytest.raises(BudgetSpent) as spent:
            await limiter.acquire(LIVE)
        waits.append(spent.value.wait.total_seconds())
    assert waits[0] > 300
    assert waits == sorted(set(waits))
    assert waits[-1] - waits[0] == pytest.approx(99 / (0.95 * LIMIT.rate), rel=0.01)


async def test_backfill_has_few_waiters_and_is_refused_at_once_beyond_them(row: RowUsers) -> None:
    limiter, refused = row.limiter(ProviderLimit(400)), list[float]()
    for _ in range(4):
        await limiter.acquire(REFRESH)

    async def read_past() -> None:
        began = anyio.current_time()
        try:
            await limiter.acquire(BACKFILL)
        except BudgetSpent:
            refused.append(anyio.current_time() - began)

    async with anyio.create_task_group() as group:
        for _ in range(MAX_WAITING_LOW + 5):
            group.start_soon(read_past)
    assert sorted(refused) == pytest.approx([0] * 5 + [MAX_WAIT_SECONDS[BACKFILL]] * MAX_WAITING_LOW)


async def test_the_caller_that_reserves_for_all_may_be_cancelled(row: RowUsers) -> None:
    limiter, times = row.limiter(), dict[str, float]()
    for _ in range(LIMIT.ceiling(REFRESH)):
        await limiter.acquire(REFRESH)
    async with anyio.create_task_group() as group, anyio.create_task_group() as doomed:
        doomed.start_soon(acquire_and_note, limiter, LIVE, times, "cancelled")
        await anyio.sleep(0.001)
        group.start_soon(acquire_and_note, limiter, LIVE, times, "goes on")
        await anyio.sleep(0.01)
        doomed.cancel_scope.cancel()
    assert list(times) == ["goes on"]
    assert limiter.waiting == 0


async def test_a_store_that_fails_now_and_then_costs_only_who_asked_it(row: RowUsers) -> None:
    failing = FaultyCalls(row.budgets, every(5, Fault.AFTER), only={"replace"})
    limiter = row.limiter(budgets=failing)
    given = failed = 0
    began = anyio.current_time()
    while given < 500:
        try:
            await limiter.acquire(LIVE)
            given += 1
        except StoreUnavailable:
            failed += 1
    assert failed > 10
    assert limiter.waiting == 0
    assert anyio.current_time() - began < 1.5 * 500 / LIMIT.rate
    assert anyio.current_time() - began > 480 / LIMIT.rate, "a write whose reply was lost has been paid"


async def test_a_refusal_pauses_at_least_ourselves_when_the_store_is_away(row: RowUsers) -> None:
    limiter = row.limiter(budgets=FaultyCalls(row.budgets, every(1, Fault.BEFORE)))
    assert await limiter.pause(anyio.current_time(), None) == 30
    with pytest.raises(BudgetSpent):
        await limiter.acquire(BACKFILL)


async def test_a_clock_set_back_by_an_hour_stops_no_call(row: RowUsers) -> None:
    limiter = row.limiter()
    for _ in range(20):
        await limiter.acquire(REFRESH)
    row.clock.skip(timedelta(hours=-1))
    again = row.limiter()
    began = anyio.current_time()
    for each in (limiter, again):
        for _ in range(20):
            await each.acquire(LIVE)
    assert anyio.current_time() - began < 4


async def test_a_process_whose_clock_is_behind_pauses_those_that_are_ahead(row: RowUsers) -> None:
    behind, ahead = row.limiter(), row.limiter(ahead=3600)
    await behind.acquire(LIVE)
    await ahead.acquire(LIVE)
    await behind.pause(anyio.current_time(), 120)
    await anyio.sleep(RECHECK_SECONDS + 0.1)
    with pytest.raises(BudgetSpent) as spent:
        await ahead.acquire(LIVE)
    assert spent.value.wait.total_seconds() > 110


async def test_a_closed_limiter_releases_its_waiters_except_for_calls_that_are_not_repeated(
    row: RowUsers,
) -> None:
    limiter, times = row.limiter(budgets=cast("CallBudgetStore", SlowBudgets(row.budgets, 0.3))), dict[str, float]()
    for _ in range(LIMIT.ceiling(REFRESH)):
        await limiter.acquire(REFRESH)

    async def refused(priority: Priority) -> None:
        with pytest.raises(BudgetSpent):
            await limiter.acquire(priority)
        times[priority.name] = anyio.current_time()

    async def connect() -> None:
        await limiter.acquire(REFRESH, once=True)
        times["connect"] = anyio.current_time()

    async with anyio.create_task_group() as group:
        for priority in (BACKFILL, LIVE, REFRESH):  # the first of them reserves when the limiter is closed
            group.start_soon(refused, priority)
            await anyio.sleep(0.001)
        group.start_soon(connect)
        await anyio.sleep(0.001)
        assert limiter.waiting == 4
        limiter.close()
        closed_at = anyio.current_time()
    assert times["LIVE"] == times["REFRESH"] == closed_at
    assert times["BACKFILL"] < closed_at + 0.6, "once the reservation has its answer"
    assert times["connect"] > closed_at
    with pytest.raises(BudgetSpent):
        await limiter.acquire(LIVE)
    assert anyio.current_time() == times["connect"]
