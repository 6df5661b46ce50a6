"""Changes of a user are read by their numbers."""

from datetime import timedelta

import pytest

from bg_ingest.domain.changes import ReadingsRecorded
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.ports.table import Table
from bg_ingest.store import Store, keys
from tests.fakes.clock import NOON, SetClock
from tests.fakes.counting_table import CountingTable
from tests.harness.sample_values import USER, commit_connection, connection, reading, readings_commit_of


@pytest.fixture
async def twelve_changes(store: Store) -> Store:
    """Two users with neighbouring ids, each with a connect and eleven readings."""
    for user in (USER, UserId(f"{USER}-1")):
        await commit_connection(store, connection(id=ConnectionId(user, "acme"), provider_account=user))
        for number in range(11):
            await store.commits.write(await readings_commit_of(store.readings, [reading(number)], user))
    return store


async def read_numbers(store: Store, first: int, last: int) -> list[int]:
    changes = await store.changes.read(USER, first, last)
    assert all(change.user == USER for change in changes)
    return [change.number for change in changes]


async def test_a_range_is_read_in_ascending_order_with_both_ends(twelve_changes: Store) -> None:
    assert await read_numbers(twelve_changes, 1, 12) == list(range(1, 13))
    assert await read_numbers(twelve_changes, 2, 10) == list(range(2, 11))
    assert await read_numbers(twelve_changes, 11, 11) == [11]
    assert await read_numbers(twelve_changes, 12, 1_000) == [12]
    assert await read_numbers(twelve_changes, 13, 1_000) == []
    assert await read_numbers(twelve_changes, 1, 0) == []


async def test_a_change_is_read_as_it_was_committed(store: Store) -> None:
    await commit_connection(store)
    commit = await readings_commit_of(store.readings, [reading(1), reading(2)])
    await store.commits.write(commit)
    assert await store.changes.read(USER, 2, 2) == list(commit.changes)
    assert isinstance(commit.changes[0].data, ReadingsRecorded)


async def test_a_change_that_is_gone_is_absent_and_the_others_are_read(twelve_changes: Store, table: Table) -> None:
    await table.delete([keys.change(USER, 1), keys.change(USER, 5)])
    assert await read_numbers(twelve_changes, 1, 6) == [2, 3, 4, 6]


async def test_a_hundred_changes_are_one_read(table: Table) -> None:
    counting = CountingTable(table)
    store = Store(counting, SetClock(NOON + timedelta(days=1)))
    await commit_connection(store)
    for number in range(99):
        await store.commits.write(await readings_commit_of(store.readings, [reading(number)]))
    before = counting.asked
    assert len(await store.changes.read(USER, 1, 100)) == 100
    assert [now - then for now, then in zip(counting.asked, before, strict=True)] == [1, 0, 0]
