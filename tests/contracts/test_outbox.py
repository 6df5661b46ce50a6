"""What waits to be told, and OAuth states."""

from datetime import timedelta

from bg_ingest.domain.ids import SHARDS, ConnectionId, UserId, shard_of
from bg_ingest.ports.table import Table
from bg_ingest.store import Store
from bg_ingest.store.outbox import OutboxEntry
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


async def rows(store: Store, shard: int) -> list[OutboxEntry]:
    return [row async for page in store.outbox.iter_entries(shard) for row in page]


async def test_changes_wait_per_user_in_ascending_order(store: Store) -> None:
    neighbours = [UserId(text) for text in ("ada", "ada-1", "ada.1", "adb")]
    for user in neighbours:
        own = connection(id=ConnectionId(user, "acme"), provider_account=user)
        await commit_connection(store, own)
        for number in range(11):
            await store.commits.write(await readings_commit_of(store.readings, [reading(number)], user))
    for user in neighbours:
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
