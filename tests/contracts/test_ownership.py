"""Rows of shards and owners: each hand-over is written only if nothing changed since it was decided."""

import pytest

from bg_ingest.domain.ids import SHARDS
from bg_ingest.domain.ownership import Lease, Owner
from bg_ingest.errors import StaleRead, StoreError
from bg_ingest.ports.table import Put, Table
from bg_ingest.store import Store, keys
from bg_ingest.store.items import VERSION, build_item

ME, YOU = Owner("me", demand={"acme/app/us": 0.5}), Owner("you")


async def test_the_snapshot_has_every_shard_and_all_owners(store: Store) -> None:
    await store.ownership.register(ME)
    await store.ownership.register(YOU)
    board = await store.ownership.snapshot()
    assert board.leases == tuple(Lease(shard) for shard in range(SHARDS))
    assert sorted(board.owners, key=lambda each: each.id) == [ME, YOU]


async def test_a_heartbeat_moves_and_a_removed_owner_has_none_any_more(store: Store) -> None:
    await store.ownership.register(ME)
    beating = Owner("me", 1, leaving=True)
    await store.ownership.heartbeat(beating)
    assert (await store.ownership.snapshot()).owners == (beating,)
    with pytest.raises(StaleRead):
        await store.ownership.remove_dead(ME)  # it has written a heartbeat since
    await store.ownership.remove_dead(beating)
    assert not (await store.ownership.snapshot()).owners
    with pytest.raises(StaleRead):
        await store.ownership.heartbeat(beating)


async def test_a_shard_is_taken_once_under_its_next_epoch_and_names_its_previous_owner(store: Store) -> None:
    free = (await store.ownership.snapshot()).leases[:3]
    mine = await store.ownership.take(free, "me")
    assert mine == [Lease(shard, 1, "me") for shard in range(3)]
    assert await store.ownership.take(free, "you") == []
    await store.ownership.release([mine[0]])
    board = await store.ownership.snapshot()
    assert board.leases[:2] == (Lease(0, 1, None, "me"), mine[1])
    yours = await store.ownership.take(board.leases[:2], "you")  # the second as from a dead owner
    assert yours == [Lease(0, 2, "you", "me"), Lease(1, 2, "you", "me")]
    await store.ownership.release([mine[1]])  # it is not ours any more, so it cannot be released
    assert (await store.ownership.snapshot()).leases[1] == yours[1]


async def test_of_many_shards_those_that_moved_stay_and_the_others_are_taken(store: Store) -> None:
    seen = (await store.ownership.snapshot()).leases
    theirs = await store.ownership.take(seen[10:200:7], "you")
    mine = await store.ownership.take(seen, "me")
    assert {each.shard for each in mine} == set(range(SHARDS)) - {each.shard for each in theirs}


async def test_a_shard_row_of_a_newer_version_is_never_taken(store: Store, table: Table) -> None:
    await table.write(Put(keys.shard(0), build_item(owner="you", epoch=1) | {"v": VERSION + 1}))
    board = await store.ownership.snapshot()
    with pytest.raises(StoreError, match="newer version"):
        await store.ownership.take(board.leases[:2], "me")
