"""Changes of a user are read by their numbers; unpublished ones are listed in the outbox of the shard."""

from datetime import timedelta

import pytest

from bg_ingest.domain.changes import ReadingsRecorded
from bg_ingest.domain.ids import SHARDS, ConnectionId, UserId, shard_of
from bg_ingest.ports.table import Table
from bg_ingest.store import Store, keys
from bg_ingest.store.changes import OutboxEntry
from tests.fakes.clock import NOON, SetClock
from tests.fakes.counting_table import CountingTable
from tests.harness.sample_values import (
    USER,
    commit_connection,
    connection,
    reading,
    readings_commit_of,
    unpublished_changes,
)


@pytest.fixture
async def twelve_changes(store: Store) -> Store:
    """Two users with adjacent ids, each with a connect and eleven readings."""
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


async def rows(store: Store, shard: int) -> list[OutboxEntry]:
    return [row async for page in store.outbox.iter_entries(shard) for row in page]


async def test_changes_wait_per_user_in_ascending_order(store: Store) -> None:
    adjacent_users = [UserId(text) for text in ("ada", "ada-1", "ada.1", "adb")]
    for user in adjacent_users:
        own = connection(id=ConnectionId(user, "acme"), provider_account=user)
        await commit_connection(store, own)
        for number in range(11):
            await store.commits.write(await readings_commit_of(store.readings, [reading(number)], user))
    for user in adjacent_users:
        found = [row.number for row in await rows(store, shard_of(user)) if row.user == user]
        assert found == list(range(1, 13))


async def test_more_than_a_page_waits_and_no_row_is_left_out_or_twice(store: Store) -> None:
    await commit_connection(store)
    for number in range(250):
        await store.commits.write(await readings_commit_of(store.readings, [reading(number % 70, 100 + number // 70)]))
    assert [row.number for row in await rows(store, shard_of(USER))] == list(range(1, 252))


async def test_shards_with_unpublished_changes_are_distinguished_from_those_without(store: Store) -> None:
    await commit_connection(store)
    assert await store.outbox.non_empty_shards(range(SHARDS)) == {shard_of(USER)}
    assert await store.outbox.non_empty_shards(set(range(SHARDS)) - {shard_of(USER)}) == set()
    await store.outbox.settle(await rows(store, shard_of(USER)))
    assert await store.outbox.non_empty_shards(range(SHARDS)) == set()


async def test_what_is_settled_no_longer_waits_and_what_was_not_still_does(store: Store) -> None:
    await commit_connection(store)
    for number in range(4):
        await store.commits.write(await readings_commit_of(store.readings, [reading(number)]))
    all_rows = await rows(store, shard_of(USER))
    await store.outbox.settle([all_rows[0], all_rows[2]])
    await store.outbox.settle([all_rows[0]])
    assert [row.number for row in await rows(store, shard_of(USER))] == [2, 4, 5]


async def test_an_unknown_change_is_absent_and_the_others_are_found(store: Store) -> None:
    await commit_connection(store)
    known, unknown = OutboxEntry(shard_of(USER), USER, 1), OutboxEntry(shard_of(USER), USER, 2)
    assert list(await store.outbox.changes([known, unknown])) == [known]


async def test_an_outbox_row_outlives_its_change(store: Store, clock: SetClock) -> None:
    await commit_connection(store)
    clock.advance(timedelta(days=61))
    await store.states.add(USER, "any", b"write", NOON)
    (row,) = await rows(store, shard_of(USER))
    assert row.number == 1


async def test_publishing_costs_a_read_for_the_rows_one_for_the_changes_and_one_write(table: Table) -> None:
    counting = CountingTable(table)
    store = Store(counting, SetClock())
    await commit_connection(store)
    before = counting.asked
    found = await rows(store, shard_of(USER))
    await store.outbox.changes(found)
    await store.outbox.settle(found)
    assert [now - then for now, then in zip(counting.asked, before, strict=True)] == [2, 1, 0]
    assert await unpublished_changes(store) == []
