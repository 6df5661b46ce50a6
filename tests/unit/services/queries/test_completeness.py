"""Gaps of a window and the completeness of its days, from a store in memory."""

from collections.abc import AsyncIterator
from datetime import date, timedelta
from typing import Any

import msgspec
import pytest

from bg_ingest.adapters.sqlite import open_table
from bg_ingest.domain.gaps import Cause, Gap, update_months
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.windows import Window
from bg_ingest.errors import NotFound
from bg_ingest.services.queries.completeness import CompletenessQueries
from bg_ingest.store import Store
from tests.fakes.clock import NOON, SetClock
from tests.harness.sample_values import (
    USER,
    commit_connection,
    connection,
    reading,
    readings_commit_of,
    replaced_fields,
)

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
