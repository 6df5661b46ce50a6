"""Rows that say who serves what: each change of hands holds only if nothing moved since it was decided."""

from datetime import timedelta

import msgspec
import pytest

from bg_ingest.adapters.table import keys
from bg_ingest.adapters.table.protocol import Put, Table
from bg_ingest.adapters.table.records import VERSION, item
from bg_ingest.adapters.table.store import TableStore
from bg_ingest.domain.connections import WorkerSettings
from bg_ingest.domain.ids import SHARDS, shard_of
from bg_ingest.domain.leases import NOBODY, Lease, Owner
from bg_ingest.errors import Fenced, Outdated, StoreError
from bg_ingest.ports import Store, Wish
from tests.contracts.values import USER, connect, connection, deciding, reading
from tests.fakes.clock import SetClock

ME, YOU = Owner("me", demand={"acme/app/us": 0.5}), Owner("you")
SHARD = shard_of(USER)


async def test_the_board_has_every_shard_and_all_owners(store: Store) -> None:
    await store.ownership.enter(ME)
    await store.ownership.enter(YOU)
    board = await store.ownership.board()
    assert board.leases == tuple(Lease(shard) for shard in range(SHARDS))
    assert sorted(board.owners, key=lambda each: each.id) == [ME, YOU]


async def test_a_beat_moves_and_who_was_buried_can_beat_no_more(store: Store) -> None:
    await store.ownership.enter(ME)
    beating = Owner("me", 1, leaving=True)
    await store.ownership.beat(beating)
    assert (await store.ownership.board()).owners == (beating,)
    with pytest.raises(Outdated):
        await store.ownership.bury(ME)  # it has beaten since
    await store.ownership.bury(beating)
    assert not (await store.ownership.board()).owners
    with pytest.raises(Outdated):
        await store.ownership.beat(beating)


async def test_a_shard_is_taken_once_under_its_next_epoch_and_knows_who_had_it_before(store: Store) -> None:
    free = (await store.ownership.board()).leases[:3]
    mine = await store.ownership.take(free, "me")
    assert mine == [Lease(shard, 1, "me") for shard in range(3)]
    assert await store.ownership.take(free, "you") == []
    await store.ownership.give_back([mine[0]])
    board = await store.ownership.board()
    assert board.leases[:2] == (Lease(0, 1, None, "me"), mine[1])
    yours = await store.ownership.take(board.leases[:2], "you")  # the second as from a dead owner
    assert yours == [Lease(0, 2, "you", "me"), Lease(1, 2, "you", "me")]
    await store.ownership.give_back([mine[1]])  # no longer ours to give
    assert (await store.ownership.board()).leases[1] == yours[1]


async def test_of_many_shards_those_that_moved_stay_and_the_others_are_taken(store: Store) -> None:
    seen = (await store.ownership.board()).leases
    theirs = await store.ownership.take(seen[10:200:7], "you")
    mine = await store.ownership.take(seen, "me")
    assert {each.shard for each in mine} == set(range(SHARDS)) - {each.shard for each in theirs}


async def test_a_shard_row_of_a_newer_version_is_never_taken(store: Store, table: Table) -> None:
    await table.write(Put(keys.shard(0), item(owner="you", epoch=1) | {"v": VERSION + 1}))
    board = await store.ownership.board()
    with pytest.raises(StoreError, match="newer version"):
        await store.ownership.take(board.leases[:2], "me")


async def owned_by(store: Store, owner: Owner) -> None:
    await store.ownership.enter(owner)
    board = await store.ownership.board()
    await store.ownership.take(board.leases, owner.id)


async def test_a_look_is_asked_of_whoever_serves_the_connection(store: Store, table: Table, clock: SetClock) -> None:
    ada = connection().id
    await store.rings.ring(ada)
    [ring] = await store.rings.waiting(NOBODY)
    assert (ring.connection, ring.wish) == (ada, Wish.LOOK)
    await owned_by(TableStore(table, clock), YOU)
    await store.rings.ring(ada)
    assert [each.connection for each in await store.rings.waiting("you")] == [ada]


async def test_heard_rings_are_gone_and_others_stay(store: Store, clock: SetClock) -> None:
    ada = connection().id
    await store.rings.ring(ada)
    clock.advance(timedelta(seconds=1))
    await store.rings.ring(ada)
    first, second = await store.rings.waiting(NOBODY)
    await store.rings.heard([first])
    assert await store.rings.waiting(NOBODY) == [second]


async def test_rings_are_sent_on_to_the_new_owner(store: Store, table: Table, clock: SetClock) -> None:
    ada = connection().id
    await owned_by(store, ME)
    await store.rings.ring(ada)
    rings = await store.rings.waiting("me")
    await store.rings.send_on(rings)
    assert await store.rings.waiting("me") == rings, "it is ours still"
    other = TableStore(table, clock)
    await other.ownership.enter(YOU)
    await other.ownership.take([(await other.ownership.board()).leases[SHARD]], "you")
    await store.ownership.board()
    await store.rings.send_on(rings)
    assert not await store.rings.waiting("me")
    assert [each.connection for each in await store.rings.waiting("you")] == [ada]


async def test_a_commit_rings_only_the_process_that_tells_it(store: Store, table: Table, clock: SetClock) -> None:
    other = TableStore(table, clock)
    await connect(store)
    await owned_by(store, ME)
    await other.ownership.enter(YOU)
    await other.ownership.board()
    ours = await deciding(store.readings, [reading(1)])
    await store.readings.commit(ours)
    assert not await store.rings.waiting("me")
    theirs = await deciding(other.readings, [reading(2)])
    await other.readings.commit(theirs)
    assert [each.wish for each in await store.rings.waiting("me")] == [Wish.TELL]


async def test_a_change_of_settings_and_its_ring_are_one(store: Store) -> None:
    await connect(store)
    await owned_by(store, ME)
    before = connection()
    found = await store.connections.get(before.id)
    assert found is not None
    changed = msgspec.structs.replace(found, worker=WorkerSettings(poll_interval_seconds=60))
    await store.connections.note(found, changed, look=True)
    assert [each.wish for each in await store.rings.waiting("me")] == [Wish.LOOK]
    with pytest.raises(Fenced):
        await store.connections.note(found, msgspec.structs.replace(found, worker=WorkerSettings(90)), look=True)
    assert len(await store.rings.waiting("me")) == 1
