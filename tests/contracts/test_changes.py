"""Changes of a user are read by their numbers; the unpublished ones by the published number of the head and by rows."""

from datetime import timedelta

import pytest

from bg_ingest.domain.changes import ReadingsRecorded
from bg_ingest.domain.connections import ConnectionState
from bg_ingest.domain.ids import ConnectionId, UserId, shard_of
from bg_ingest.ports.table import Key, Put, Table
from bg_ingest.store import Store, keys
from bg_ingest.store.items import build_item
from bg_ingest.store.outbox import OutboxEntry
from tests.fakes.clock import NOON, SetClock
from tests.fakes.counting_table import CountingTable
from tests.harness.sample_values import (
    USER,
    commit_connection,
    connection,
    connection_commit,
    listed_commit,
    reading,
    readings_commit_of,
    replaced_fields,
)
from tests.harness.table_dump import read_all_items


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


async def numbers(store: Store, user: UserId = USER) -> list[int]:
    """Return the numbers of a user's unpublished changes."""
    return [entry.number for entry in await store.outbox.list_shard(shard_of(user)) if entry.user == user]


async def test_the_unpublished_changes_of_a_user_ascend_and_no_user_has_those_of_another(store: Store) -> None:
    adjacent_users = [UserId(text) for text in ("ada", "ada-1", "ada.1", "adb")]
    for user in adjacent_users:
        own = connection(id=ConnectionId(user, "acme"), provider_account=user)
        await commit_connection(store, own)
        for number in range(11):
            await store.commits.write(await readings_commit_of(store.readings, [reading(number)], user))
    for user in adjacent_users:
        assert await numbers(store, user) == list(range(1, 13))


async def test_more_than_a_page_of_rows_is_read_and_none_is_left_out_or_twice(store: Store) -> None:
    await commit_connection(store)
    for number in range(250):
        await store.commits.write(await readings_commit_of(store.readings, [reading(number % 70, 100 + number // 70)]))
    assert await numbers(store) == list(range(1, 252))


async def test_a_user_in_the_directory_has_no_outbox_row_and_a_disconnected_one_has(store: Store, table: Table) -> None:
    first, second = await listed_commit(store, USER), connection(provider_account=USER)
    await store.commits.write(first)
    await store.commits.write(await listed_commit(store, USER))
    assert await outbox_rows(table) == set()
    gone = replaced_fields(second, state=ConnectionState.DISCONNECTED)
    head = await store.readings.head(USER)
    await store.commits.write(connection_commit(head, second, gone, drop_grant=True))
    assert await outbox_rows(table) == {keys.outbox(USER, 3)}
    assert await numbers(store) == [1, 2, 3]


async def test_a_commit_records_the_numbers_that_were_published_before_it(store: Store, table: Table) -> None:
    await store.commits.write(await listed_commit(store, USER))
    store.outbox.published.confirm(USER, 1)
    await store.commits.write(await listed_commit(store, USER))
    successor = Store(table, SetClock())
    assert await numbers(successor) == [2]
    await successor.commits.write(await listed_commit(successor, USER))
    assert await numbers(Store(table, SetClock())) == [2, 3], "another process records only what it knows"


async def test_a_commit_of_another_process_takes_no_published_number_back(store: Store, table: Table) -> None:
    other = Store(table, SetClock())
    await store.commits.write(await listed_commit(store, USER))
    store.outbox.published.confirm(USER, 1)
    await store.commits.write(await listed_commit(store, USER))
    await other.commits.write(await listed_commit(other, USER))
    assert await numbers(Store(table, SetClock())) == [2, 3]


async def test_the_row_of_a_shard_has_the_numbers_that_no_head_has(store: Store, table: Table) -> None:
    await store.commits.write(await listed_commit(store, USER))
    store.outbox.published.confirm(USER, 1)
    await store.outbox.write_numbers(shard_of(USER))
    assert (await store.outbox.read_directory(shard_of(USER))).published == {USER: 1}
    successor = Store(table, SetClock())
    assert await numbers(successor) == []
    await successor.commits.write(await listed_commit(successor, USER))
    assert await numbers(Store(table, SetClock())) == [2], "the number was carried on"
    await successor.outbox.write_numbers(shard_of(USER))
    assert keys.published(shard_of(USER)) not in await read_all_items(table)


async def test_settled_rows_are_gone_and_their_number_is_in_the_head(store: Store, table: Table) -> None:
    await commit_connection(store)
    for number in range(3):
        await store.commits.write(await readings_commit_of(store.readings, [reading(number)]))
    entries = await store.outbox.list_shard(shard_of(USER))
    for entry in entries[:3]:
        store.outbox.published.confirm(USER, entry.number)
    for _ in range(2):
        await store.outbox.settle(entries[:3])
    assert await numbers(Store(table, SetClock())) == [4]
    assert await outbox_rows(table) == {keys.outbox(USER, 4)}


async def test_a_row_above_the_last_number_of_its_head_waits_for_the_numbers_between(
    store: Store, table: Table
) -> None:
    """The head was read before two commits, the rows afterwards. The first of them may have no row."""
    await store.commits.write(await listed_commit(store, USER))
    await table.write(Put(keys.outbox(USER, 3), build_item()))
    assert await numbers(store) == [1]


async def test_a_change_to_be_published_again_waits_although_it_is_published(store: Store, table: Table) -> None:
    await store.commits.write(await listed_commit(store, USER))
    store.outbox.published.confirm(USER, 1)
    assert await numbers(store) == []
    await store.outbox.restore(await store.changes.read(USER, 1, 1))
    (again,) = await store.outbox.list_shard(shard_of(USER))
    assert (again.number, again.has_row) == (1, True)
    await store.outbox.settle([again])
    assert await outbox_rows(table) == set()


async def test_an_unknown_change_is_absent_and_the_others_are_found(store: Store) -> None:
    await commit_connection(store)
    known, unknown = OutboxEntry(shard_of(USER), USER, 1), OutboxEntry(shard_of(USER), USER, 2)
    assert list(await store.outbox.changes([known, unknown])) == [known]


async def test_an_outbox_row_outlives_its_change(store: Store, clock: SetClock) -> None:
    await commit_connection(store)
    await store.commits.write(await readings_commit_of(store.readings, [reading(1)]))
    clock.advance(timedelta(days=61))
    await store.states.add(USER, "any", b"write", NOON)
    assert await numbers(store) == [1, 2]


async def test_reading_the_unpublished_changes_of_a_shard_costs_a_read_each_for_directory_heads_and_rows(
    table: Table,
) -> None:
    counting = CountingTable(table)
    store = Store(counting, SetClock())
    await commit_connection(store)
    before = counting.asked
    assert len(await store.outbox.list_shard(shard_of(USER))) == 1
    assert [now - then for now, then in zip(counting.asked, before, strict=True)] == [3, 0, 0]


async def outbox_rows(table: Table) -> set[Key]:
    return {key for key in await read_all_items(table) if key[1].startswith(keys.OUTBOX)}
