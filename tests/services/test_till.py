"""Who has the next call: by priority, then by arrival, over all processes on one row."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, cast

import anyio
import pytest

from bg_ingest.adapters.sqlite import open_table
from bg_ingest.adapters.table.store import TableStore
from bg_ingest.domain.budget import LIFETIME, App, Limit
from bg_ingest.errors import BudgetSpent, StoreUnavailable
from bg_ingest.ports import Budgets, Clock, Priority
from bg_ingest.services.till import LOOK_AGAIN, MOST_OF_THE_PAST, PATIENCE, Till
from tests.conftest import on
from tests.fakes.counting import Counting
from tests.fakes.faults import Fault, Faulty, InFront, every
from tests.house import LoopClock

anyio_backend = on("asyncio", "trio")


APP = App("acme", "our-app", "us")
LIMIT = Limit(60_000)
BACKFILL, LIVE, REFRESH = Priority.BACKFILL, Priority.LIVE, Priority.REFRESH


class Ahead:
    """A clock that is off."""

    def __init__(self, clock: Clock, by: timedelta) -> None:
        self._clock = clock
        self._by = by

    def now(self) -> object:
        return self._clock.now() + self._by


class Row:
    """One row, and processes that share it."""

    def __init__(self, table: Counting, clock: LoopClock) -> None:
        self.table = table
        self.clock = clock
        self.budgets: Budgets = TableStore(table, clock).budgets

    def till(self, limit: Limit = LIMIT, *, ahead: float = 0, budgets: Budgets | None = None) -> Till:
        clock = Ahead(self.clock, timedelta(seconds=ahead))
        return Till(APP, limit, budgets or self.budgets, clock)  # type: ignore[arg-type]


@pytest.fixture
async def row() -> AsyncIterator[Row]:
    clock = LoopClock()
    async with open_table(None, clock) as memory:
        yield Row(Counting(memory), clock)


async def had(till: Till, priority: Priority, told: dict[str, float], name: str) -> None:
    await till.take(priority)
    told[name] = anyio.current_time()


async def test_many_calls_cost_one_read_and_one_write_each_few(row: Row) -> None:
    till = row.till()
    began = anyio.current_time()
    for _ in range(1000):
        await till.take(LIVE)
    seconds = anyio.current_time() - began
    assert 1000 / seconds == pytest.approx(LIMIT.rate, rel=0.03)
    assert row.table.writes <= 1000 / 3.5
    assert row.table.reads <= 2.5 * row.table.writes


async def test_who_calls_now_and_then_writes_at_most_once_a_minute_and_who_does_not_never(row: Row) -> None:
    till = row.till()
    for _ in range(60):
        await till.take(LIVE)
        await anyio.sleep(10)
    assert row.table.writes <= 600 / LIFETIME + 5
    before = row.table.asked
    await anyio.sleep(3600)
    assert row.table.asked == before


async def test_calls_taken_in_advance_are_not_used_after_their_lifetime(row: Row) -> None:
    till = row.till()
    while not any(each.left > 1 for each in till._slices.values()):
        await till.take(LIVE)
    bought = row.table.writes
    await anyio.sleep(LIFETIME - 1)
    await till.take(LIVE)
    assert row.table.writes == bought, "what is at hand is still good"
    await anyio.sleep(2)
    await till.take(LIVE)
    assert row.table.writes == bought + 1


async def test_after_a_rest_nobody_waits(row: Row) -> None:
    till = row.till()
    began = anyio.current_time()
    async with anyio.create_task_group() as group:
        for _ in range(LIMIT.ceiling(LIVE)):
            group.start_soon(till.take, LIVE)
    assert anyio.current_time() == began


async def test_the_higher_priority_has_the_next_call_and_of_one_priority_who_came_first(row: Row) -> None:
    till, told = row.till(), dict[str, float]()
    for _ in range(LIMIT.ceiling(REFRESH)):
        await till.take(REFRESH)
    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(had, till, BACKFILL, told, f"past {number}")
            await anyio.sleep(0.001)
        for number in range(12):
            group.start_soon(had, till, LIVE, told, f"live {number}")
            await anyio.sleep(0.001)
        group.start_soon(had, till, REFRESH, told, "refresh")
    order = ["refresh", *(f"live {number}" for number in range(12)), *(f"past {number}" for number in range(3))]
    assert [told[name] for name in order] == sorted(told.values())
    assert len(set(told.values())) > 3


async def test_backfill_of_one_process_does_not_keep_anothers_polls_waiting(row: Row) -> None:
    past, live, over = row.till(), row.till(), anyio.Event()

    async def read_past() -> None:
        while not over.is_set():
            try:
                await past.take(BACKFILL)
            except BudgetSpent as spent:
                await anyio.sleep(spent.wait.total_seconds())

    waits = []
    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(read_past)
        for _ in range(300):
            await anyio.sleep(0.1)
            began = anyio.current_time()
            await live.take(LIVE)
            waits.append(anyio.current_time() - began)
        over.set()
    assert max(waits) < 1
    assert sum(waits) / len(waits) < 0.1
    assert past.given > 0.8 * (30 * LIMIT.rate - 300), "what the polls leave is the backfill's"


async def test_processes_that_want_calls_all_the_time_have_as_many_each(row: Row) -> None:
    tills = [row.till(ahead=ahead) for ahead in (0, 0, 0, 60, -60)]
    with anyio.move_on_after(300):
        async with anyio.create_task_group() as group:
            for till in tills:
                for _ in range(20):
                    group.start_soon(calling, till)
    given = [till.given for till in tills]
    assert sum(given) == pytest.approx(300 * LIMIT.rate, rel=0.05)
    # whose slice is next is drawn: of some thousand calls each, a tenth more or less is chance
    assert max(given) < 1.6 * min(given)


@pytest.mark.parametrize(("answers_after", "least"), [((0.006, 0.006, 0.006), 0.7), ((0.006, 0.006, 0.03), 0.4)])
async def test_nobody_goes_short_for_long_not_even_whose_store_answers_later(
    row: Row, answers_after: Sequence[float], least: float
) -> None:
    limit = Limit(200_000)
    tills = [row.till(limit, budgets=cast("Any", Slow(row.budgets, after))) for after in answers_after]
    shares: list[list[float]] = []
    with anyio.move_on_after(60):
        async with anyio.create_task_group() as group:
            for till in tills:
                for _ in range(100):
                    group.start_soon(calling, till)
            while True:
                before = [till.given for till in tills]
                await anyio.sleep(5)
                had = [till.given - count for till, count in zip(tills, before, strict=True)]
                shares.append([len(tills) * each / sum(had) for each in had])
    assert min(min(each) for each in shares[2:]) > least
    assert sum(till.given for till in tills) == pytest.approx(60 * limit.rate, rel=0.05)


class Slow(InFront):
    """A store that takes a while to answer."""

    def __init__(self, inner: Budgets, after: float) -> None:
        super().__init__(inner)
        self._after = after

    async def _around(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        await anyio.sleep(self._after / 2)
        answer = await call()
        await anyio.sleep(self._after / 2)
        return answer


async def calling(till: Till) -> None:
    while True:
        with suppress(BudgetSpent):
            await till.take(LIVE)


async def test_case_36_a_pause_stops_everybody_also_who_has_calls_at_hand(row: Row) -> None:
    first, second = row.till(), row.till()
    for till in (first, second):
        for _ in range(4):
            await till.take(LIVE)
    assert any(each.left for each in second._slices.values())
    refused_at = anyio.current_time()
    assert await first.pause(refused_at, 120) == 120
    await anyio.sleep(LOOK_AGAIN + 0.1)
    for till in (first, second):
        with pytest.raises(BudgetSpent) as spent:
            await till.take(REFRESH)
        assert spent.value.wait.total_seconds() > 120 - LOOK_AGAIN - 1
    await anyio.sleep_until(refused_at + 120.1)
    await second.take(LIVE)
    await first.take(LIVE)


async def test_whoever_waits_when_the_pause_comes_is_told_when_to_come_back(row: Row) -> None:
    till, others = row.till(Limit(400)), row.till(Limit(400))
    for _ in range(4):
        await till.take(REFRESH)
    began = anyio.current_time()
    async with anyio.create_task_group() as group:
        group.start_soon(others.pause, began, 600)
        with pytest.raises(BudgetSpent) as spent:
            await till.take(LIVE)
    assert spent.value.wait.total_seconds() > 560
    assert anyio.current_time() - began < 40


async def test_case_37_after_a_pause_they_come_back_one_after_the_other(row: Row) -> None:
    till = row.till()
    await till.pause(anyio.current_time(), 300)
    waits = []
    for _ in range(100):
        with pytest.raises(BudgetSpent) as spent:
            await till.take(LIVE)
        waits.append(spent.value.wait.total_seconds())
    assert waits[0] > 300
    assert waits == sorted(set(waits))
    assert waits[-1] - waits[0] == pytest.approx(99 / (0.95 * LIMIT.rate), rel=0.01)


async def test_the_past_takes_few_places_and_is_told_at_once_when_they_are_taken(row: Row) -> None:
    till, refused = row.till(Limit(400)), list[float]()
    for _ in range(4):
        await till.take(REFRESH)

    async def read_past() -> None:
        began = anyio.current_time()
        try:
            await till.take(BACKFILL)
        except BudgetSpent:
            refused.append(anyio.current_time() - began)

    async with anyio.create_task_group() as group:
        for _ in range(MOST_OF_THE_PAST + 5):
            group.start_soon(read_past)
    assert sorted(refused) == pytest.approx([0] * 5 + [PATIENCE[BACKFILL]] * MOST_OF_THE_PAST)


async def test_whoever_asks_the_row_for_all_may_be_cancelled(row: Row) -> None:
    till, told = row.till(), dict[str, float]()
    for _ in range(LIMIT.ceiling(REFRESH)):
        await till.take(REFRESH)
    async with anyio.create_task_group() as group, anyio.create_task_group() as doomed:
        doomed.start_soon(had, till, LIVE, told, "cancelled")
        await anyio.sleep(0.001)
        group.start_soon(had, till, LIVE, told, "goes on")
        await anyio.sleep(0.01)
        doomed.cancel_scope.cancel()
    assert list(told) == ["goes on"]
    assert till.waiting == 0


async def test_a_store_that_fails_now_and_then_costs_only_who_asked_it(row: Row) -> None:
    failing = Faulty(row.budgets, every(5, Fault.AFTER), only={"spend"})
    till = row.till(budgets=failing)
    given = failed = 0
    began = anyio.current_time()
    while given < 500:
        try:
            await till.take(LIVE)
            given += 1
        except StoreUnavailable:
            failed += 1
    assert failed > 10
    assert till.waiting == 0
    assert anyio.current_time() - began < 1.5 * 500 / LIMIT.rate
    assert anyio.current_time() - began > 480 / LIMIT.rate, "a write whose reply was lost has been paid"


async def test_a_refusal_pauses_at_least_ourselves_when_the_store_is_away(row: Row) -> None:
    till = row.till(budgets=Faulty(row.budgets, every(1, Fault.BEFORE)))
    assert await till.pause(anyio.current_time(), None) == 30
    with pytest.raises(BudgetSpent):
        await till.take(BACKFILL)


async def test_a_clock_set_back_by_an_hour_stops_nobody(row: Row) -> None:
    till = row.till()
    for _ in range(20):
        await till.take(REFRESH)
    row.clock.skip(timedelta(hours=-1))
    again = row.till()
    began = anyio.current_time()
    for each in (till, again):
        for _ in range(20):
            await each.take(LIVE)
    assert anyio.current_time() - began < 4


async def test_a_process_whose_clock_is_behind_pauses_those_that_are_ahead(row: Row) -> None:
    behind, ahead = row.till(), row.till(ahead=3600)
    await behind.take(LIVE)
    await ahead.take(LIVE)
    await behind.pause(anyio.current_time(), 120)
    await anyio.sleep(LOOK_AGAIN + 0.1)
    with pytest.raises(BudgetSpent) as spent:
        await ahead.take(LIVE)
    assert spent.value.wait.total_seconds() > 110


async def test_a_closed_till_lets_those_go_who_wait_but_for_what_nobody_would_ask_for_again(row: Row) -> None:
    till, told = row.till(budgets=cast("Budgets", Slow(row.budgets, 0.3))), dict[str, float]()
    for _ in range(LIMIT.ceiling(REFRESH)):
        await till.take(REFRESH)

    async def refused(priority: Priority) -> None:
        with pytest.raises(BudgetSpent):
            await till.take(priority)
        told[priority.name] = anyio.current_time()

    async def connect() -> None:
        await till.take(REFRESH, once=True)
        told["connect"] = anyio.current_time()

    async with anyio.create_task_group() as group:
        for priority in (BACKFILL, LIVE, REFRESH):  # the first of them asks the row when the till is closed
            group.start_soon(refused, priority)
            await anyio.sleep(0.001)
        group.start_soon(connect)
        await anyio.sleep(0.001)
        assert till.waiting == 4
        till.close()
        closed_at = anyio.current_time()
    assert told["LIVE"] == told["REFRESH"] == closed_at
    assert told["BACKFILL"] < closed_at + 0.6, "once it has its answer"
    assert told["connect"] > closed_at
    with pytest.raises(BudgetSpent):
        await till.take(LIVE)
    assert anyio.current_time() == told["connect"]
