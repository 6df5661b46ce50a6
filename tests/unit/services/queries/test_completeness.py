"""Gaps of a window, the completeness of its days, comparison with the provider, and a backfill on request."""

from collections.abc import AsyncIterator
from datetime import date, timedelta
from typing import Any

import anyio
import msgspec
import pytest

from bg_ingest.adapters.sqlite import open_table
from bg_ingest.domain.commits import Commit
from bg_ingest.domain.connections import PollDefaults
from bg_ingest.domain.gaps import Cause, Gap, update_months
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.polling import Outcome, PollState
from bg_ingest.domain.quarantine import QuarantinedRecord, QuarantinePage
from bg_ingest.domain.segments import segment_start
from bg_ingest.domain.verification import DifferenceKind, Verification
from bg_ingest.domain.windows import Window
from bg_ingest.errors import Conflict, NotFound
from bg_ingest.ports import Priority
from bg_ingest.services.queries.completeness import CompletenessQueries
from bg_ingest.simulator.faults import Damaged, Late, Revised
from bg_ingest.store import Store
from tests.fakes.clock import NOON, SetClock
from tests.fakes.counting_table import CountingTable
from tests.fakes.faults import Fault, FaultyCalls
from tests.harness.connected_user import ADA, ConnectedUser
from tests.harness.sample_values import (
    USER,
    commit_connection,
    connection,
    reading,
    readings_commit_of,
    replaced_fields,
)
from tests.harness.service import START, open_service

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
WINDOW = Window(NOON - DAY, NOON + DAY)
GAP = Gap(after=NOON, before=NOON + 20 * MINUTE, cadence_seconds=300, cause=Cause.THROTTLED, opened_at=NOON + 2 * HOUR)
OTHER = ConnectionId(USER, "other")


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    clock = SetClock()
    async with open_table(None, clock) as table:
        yield Store(table, clock)


def queries(store: Store, now: Any = NOON + DAY) -> CompletenessQueries:
    return CompletenessQueries(store, SetClock(now))


async def add_gaps(store: Store, *gaps: Gap, provider: str = "acme") -> None:
    commit = await readings_commit_of(store.readings, [])
    await store.commits.write(replaced_fields(commit, gap_months=update_months([], provider, gaps)))


async def test_a_user_that_never_connected_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound):
        await queries(store).gaps(USER, WINDOW)
    with pytest.raises(NotFound):
        await queries(store).days(USER, WINDOW)


@pytest.mark.parametrize(
    ("window", "count"),
    [
        (WINDOW, 1),
        (Window(NOON + 10 * MINUTE, NOON + 11 * MINUTE), 1),
        (Window(NOON + 20 * MINUTE, NOON + HOUR), 0),
        (Window(NOON - HOUR, NOON + 5 * MINUTE), 0),
        (Window(NOON + 10 * DAY, NOON + 11 * DAY), 0),
    ],
)
async def test_gaps_that_reach_into_the_window_are_returned(store: Store, window: Window, count: int) -> None:
    await commit_connection(store)
    await add_gaps(store, GAP)
    assert await queries(store).gaps(USER, window) == [("acme", GAP)] * count


async def test_a_silence_of_earlier_months_reaches_into_every_later_window(store: Store) -> None:
    await commit_connection(store)
    silence = msgspec.structs.replace(GAP, after=NOON - 100 * DAY, before=None)
    await add_gaps(store, silence)
    assert await queries(store).gaps(USER, WINDOW) == [("acme", silence)]


@pytest.mark.parametrize("years", [1, 10])
async def test_the_cost_of_a_day_does_not_grow_with_the_years(years: int) -> None:
    clock = SetClock()
    async with open_table(None, clock) as table:
        counting = CountingTable(table)
        store = Store(counting, clock)
        await commit_connection(store)
        months = [
            replaced_fields(GAP, after=NOON - 30 * n * DAY, before=NOON - 30 * n * DAY + HOUR)
            for n in range(1, 13 * years)
        ]
        for first in range(0, len(months), 20):
            await add_gaps(store, *months[first : first + 20])
        for n in range(1, 40 * years):
            head = await store.readings.head(USER)
            assert head is not None
            record = QuarantinedRecord("no_value", b"1", b"sealed", NOON, "acme", "account-1")
            page = QuarantinePage(segment_start(NOON - 9 * n * DAY), 1, (record,))
            await store.commits.write(Commit(before=head, head=head, quarantine_pages=(page,)))
        reads, items = counting.reads, counting.queried_items
        assert await queries(store).gaps(USER, WINDOW) == []
        assert (counting.reads - reads, counting.queried_items - items) == (2, 2)
        reads, items = counting.reads, counting.queried_items
        assert await queries(store).days(USER, WINDOW) == []
        assert (counting.reads - reads, counting.queried_items - items) == (5, 2)


async def test_gaps_of_several_providers_are_sorted_by_their_start(store: Store) -> None:
    await commit_connection(store)
    await commit_connection(store, connection(id=OTHER, provider_account="account-2"))
    earlier = msgspec.structs.replace(GAP, after=NOON - HOUR, before=NOON - HOUR / 2, healed_at=NOON)
    await add_gaps(store, GAP)
    await add_gaps(store, earlier, provider="other")
    assert await queries(store).gaps(USER, WINDOW) == [("other", earlier), ("acme", GAP)]


async def test_a_day_expects_stored_and_missing_readings(store: Store) -> None:
    await commit_connection(store)
    await store.commits.write(await readings_commit_of(store.readings, [reading(n) for n in (0, 4, 5)]))
    await add_gaps(store, GAP)
    (day,) = await queries(store).days(USER, WINDOW)
    assert (day.date, day.provider) == (date(2026, 3, 2), "acme")
    assert (day.expected, day.stored, day.late, day.missing) == (6, 3, 0, {Cause.THROTTLED: 3})


async def test_a_healed_gap_misses_nothing(store: Store) -> None:
    await commit_connection(store)
    await add_gaps(store, msgspec.structs.replace(GAP, healed_at=NOON + 3 * HOUR))
    assert await queries(store).days(USER, WINDOW) == []


async def test_a_silence_misses_only_readings_that_are_overdue(store: Store) -> None:
    await commit_connection(store)
    await add_gaps(store, msgspec.structs.replace(GAP, before=None))
    assert await queries(store, NOON + HOUR).days(USER, WINDOW) == []
    (day,) = await queries(store, NOON + 2 * HOUR).days(USER, WINDOW)
    assert 10 <= day.missing[Cause.THROTTLED] <= 12, "two hours less the tolerance of 61.5 minutes"


async def compare(ada: ConnectedUser, start: timedelta = -DAY, end: timedelta = 2 * DAY) -> Verification:
    found = await ada.services.verifier.verify(ADA, Window(START + start, START + end))
    assert found is not None
    return found


async def test_readings_that_were_polled_do_not_differ(ada: ConnectedUser) -> None:
    await anyio.sleep(HOUR.total_seconds())
    await ada.poll()
    found = await compare(ada)
    assert found.differences == ()
    assert found.compared == len(
        [each for each in await ada.service.stored_readings("ada") if each.reading.measured_at in found.window]
    )
    assert found.compared > 280
    assert ada.service.provider.asked[-1].priority is Priority.REPAIR


async def test_readings_that_no_poll_has_read_yet_are_no_difference(ada: ConnectedUser) -> None:
    await anyio.sleep((5 * HOUR).total_seconds())
    found = await compare(ada)
    assert found.differences == ()
    assert found.window.end <= START + MINUTE


async def test_each_kind_of_difference_is_reported_and_nothing_is_changed(ada: ConnectedUser) -> None:
    await anyio.sleep((6 * HOUR).total_seconds())
    await ada.poll()
    before = await ada.measured_values()
    simulator, now = ada.service.simulator, ada.service.clock.now()
    simulator.add_fault(Late(start=now - 2 * HOUR, end=now - HOUR, shown_at=now + 90 * DAY))
    simulator.add_fault(Revised(start=now - 4 * HOUR, end=now - 3 * HOUR, revised_at=now, by=9))
    found = await compare(ada)
    assert found.counts()[DifferenceKind.NOT_AT_PROVIDER] == 12
    assert found.counts()[DifferenceKind.OTHER_VALUE] == 12
    other = [each for each in found.differences if each.kind is DifferenceKind.OTHER_VALUE]
    assert {(each.provider_mg_dl or 0) - (each.stored_mg_dl or 0) for each in other} == {9}
    assert {each.without_values().stored_mg_dl for each in other} == {None}
    assert await ada.measured_values() == before


async def test_late_readings_that_no_poll_read_again_are_not_stored() -> None:
    async with open_service(defaults=PollDefaults(backfill_days=1, overlap=timedelta(0))) as service:
        ada = ConnectedUser(service)
        service.simulator.add_fault(Late(start=START - 5 * HOUR, end=START - 4 * HOUR, shown_at=START + 20 * MINUTE))
        await ada.connect()
        await anyio.sleep(HOUR.total_seconds())
        await ada.poll()
        found = await compare(ada)
        assert dict(found.counts()) == {DifferenceKind.NOT_STORED: 12}
        span = await ada.services.connections.request_backfill(ADA, START - 6 * HOUR, START - 3 * HOUR)
        assert (await ada.connection()).backfill == span
        await ada.read_backfill()
        assert (await compare(ada)).differences == ()


async def test_unreadable_records_are_counted_and_not_compared(ada: ConnectedUser) -> None:
    ada.service.simulator.add_fault(Damaged(every=10, ways=("no_value",)))
    found = await compare(ada)
    assert found.unreadable > 20


async def test_a_comparison_that_is_impossible_raises_the_reason(ada: ConnectedUser) -> None:
    verifying = ada.services.verifier
    with pytest.raises(Conflict, match="30 days"):
        await verifying.verify(ADA, Window(START - 31 * DAY, START))
    assert await verifying.verify(ADA, Window(START + DAY, START + 2 * DAY)) is None
    with pytest.raises(NotFound):
        await verifying.verify(type(ADA)(ADA.user, "acme"), Window(START - DAY, START))
    await ada.services.connections.update_worker(ADA, paused=True)
    with pytest.raises(Conflict, match="paused"):
        await verifying.verify(ADA, Window(START - DAY, START))
    with pytest.raises(Conflict, match="paused"):
        await ada.services.connections.request_backfill(ADA, None, None)


@pytest.mark.slow
async def test_a_requested_backfill_joins_the_rest_and_has_the_lowest_priority(ada: ConnectedUser) -> None:
    backfilling = ada.services.connections
    await backfilling.request_backfill(ADA, START - 40 * DAY, START - 35 * DAY)
    await backfilling.request_backfill(ADA, START - 20 * DAY, None)
    left = (await ada.connection()).backfill
    assert left == Window(START - 40 * DAY, ada.service.clock.now())
    status = await ada.service.api.get(f"/api/users/ada/connections/{ADA.provider}")
    assert status.json()["backfill_left"]["from"] == "2026-01-21T12:00:00Z"
    ada.service.provider.asked.clear()
    await ada.read_backfill()
    past = [each.window for each in ada.service.provider.asked if each.priority is Priority.BACKFILL]
    assert [each.length <= 30 * DAY for each in past] == [True, True]
    stored = await ada.measured_values()
    assert stored == ada.service.true_values("SandboxUser1", START - 40 * DAY, ada.service.clock.now())
    with pytest.raises(Conflict, match="nothing between"):
        await backfilling.request_backfill(ADA, START + 9 * DAY, None)


@pytest.mark.slow
@pytest.mark.parametrize("dies_at", [1, 3, 40, 120])
async def test_ninety_days_killed_and_resumed_repeat_at_most_one_window(dies_at: int) -> None:
    """Three calls of 30 days; the one that a kill cuts off is made once more, and nothing is stored twice."""
    async with open_service(around=lambda table: FaultyCalls(table, lambda _: None, only={"transact"})) as service:
        ada = ConnectedUser(service)
        await service.connect("ada")
        table = service.table
        assert isinstance(table, FaultyCalls)
        died = table.calls + dies_at
        table.plan = lambda call: Fault.BEFORE if call >= died else None
        while (await ada.poll()).result.outcome is Outcome.READ:
            pass
        table.plan = lambda _: None
        ada.state = PollState()
        await ada.read_backfill()
        assert service.simulator.calls["dataRange", 200] == 1
        past = [each.window for each in service.provider.asked if each.window.length > DAY]  # no live polls
        assert 3 <= len(past) <= 4
        assert len(set(past)) == 3, "one window is requested once more, unchanged"
        stored = await ada.measured_values()
        assert len(stored) == len(set(stored))
        assert stored == service.true_values("SandboxUser1", stored[0][0], START)  # type: ignore[arg-type]
        assert stored[0][0] < START - 90 * DAY + HOUR  # type: ignore[operator]
