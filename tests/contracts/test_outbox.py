"""What waits to be told, and OAuth states."""

from datetime import timedelta

import anyio

from bg_ingest.adapters.table.protocol import Table
from bg_ingest.adapters.table.store import TableStore
from bg_ingest.domain.ids import SHARDS, ConnectionId, UserId, shard_of
from bg_ingest.ports import Pending, Store
from tests.contracts.values import USER, connect, connection, deciding, reading, waiting
from tests.fakes.clock import NOON, SetClock
from tests.fakes.counting import Counting


async def rows(store: Store, shard: int) -> list[Pending]:
    return [row async for page in store.outbox.pending(shard) for row in page]


async def test_changes_wait_per_user_in_ascending_order(store: Store) -> None:
    neighbours = [UserId(text) for text in ("ada", "ada-1", "ada.1", "adb")]
    for user in neighbours:
        own = connection(id=ConnectionId(user, "acme"), provider_account=user)
        await connect(store, own)
        for number in range(11):
            await store.readings.commit(await deciding(store.readings, [reading(number)], user))
    for user in neighbours:
        found = [row.number for row in await rows(store, shard_of(user)) if row.user == user]
        assert found == list(range(1, 13))


async def test_more_than_a_page_waits_and_no_row_is_left_out_or_twice(store: Store) -> None:
    await connect(store)
    for number in range(250):
        await store.readings.commit(await deciding(store.readings, [reading(number % 70, 100 + number // 70)]))
    assert [row.number for row in await rows(store, shard_of(USER))] == list(range(1, 252))


async def test_shards_where_something_waits_are_told_from_those_without(store: Store) -> None:
    await connect(store)
    assert await store.outbox.waiting(range(SHARDS)) == {shard_of(USER)}
    assert await store.outbox.waiting(set(range(SHARDS)) - {shard_of(USER)}) == set()
    await store.outbox.settle(await rows(store, shard_of(USER)))
    assert await store.outbox.waiting(range(SHARDS)) == set()


async def test_what_is_settled_no_longer_waits_and_what_was_not_still_does(store: Store) -> None:
    await connect(store)
    for number in range(4):
        await store.readings.commit(await deciding(store.readings, [reading(number)]))
    all_rows = await rows(store, shard_of(USER))
    await store.outbox.settle([all_rows[0], all_rows[2]])
    await store.outbox.settle([all_rows[0]])
    assert [row.number for row in await rows(store, shard_of(USER))] == [2, 4, 5]


async def test_an_unknown_change_is_absent_and_the_others_are_found(store: Store) -> None:
    await connect(store)
    known, unknown = Pending(shard_of(USER), USER, 1), Pending(shard_of(USER), USER, 2)
    assert list(await store.outbox.changes([known, unknown])) == [known]


async def test_an_outbox_row_outlives_its_change(store: Store, clock: SetClock) -> None:
    await connect(store)
    clock.advance(timedelta(days=61))
    await store.states.put(USER, "any", b"write", NOON)
    (row,) = await rows(store, shard_of(USER))
    assert row.number == 1


async def test_telling_costs_a_read_for_the_rows_one_for_the_changes_and_one_write(table: Table) -> None:
    counting = Counting(table)
    store = TableStore(counting, SetClock())
    await connect(store)
    before = counting.asked
    found = await rows(store, shard_of(USER))
    await store.outbox.changes(found)
    await store.outbox.settle(found)
    assert [now - then for now, then in zip(counting.asked, before, strict=True)] == [2, 1, 0]
    assert await waiting(store) == []


async def test_a_state_is_taken_once(store: Store) -> None:
    await store.states.put(USER, "random", b"content", NOON + timedelta(minutes=10))
    assert await store.states.take("other", NOON) is None
    assert await store.states.take("random", NOON) == b"content"
    assert await store.states.take("random", NOON) is None


async def test_of_many_who_take_a_state_at_once_one_gets_it(store: Store) -> None:
    await store.states.put(USER, "random", b"content", NOON + timedelta(minutes=10))
    taken: list[bytes | None] = []

    async def take() -> None:
        taken.append(await store.states.take("random", NOON))

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(take)
    assert sorted(taken, key=bool) == [None] * 7 + [b"content"]


async def test_an_expired_state_is_gone_at_that_very_instant(store: Store) -> None:
    expires_at = NOON + timedelta(minutes=10)
    await store.states.put(USER, "random", b"content", expires_at)
    assert await store.states.take("random", expires_at) is None
    assert await store.states.take("random", expires_at - timedelta(seconds=1)) == b"content"
