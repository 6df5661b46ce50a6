"""Rows that say who serves what: each change of hands holds only if nothing moved since it was decided."""

from datetime import timedelta

import msgspec
import pytest

from bg_ingest.domain.connections import WorkerSettings
from bg_ingest.domain.ids import SHARDS, shard_of
from bg_ingest.domain.ownership import UNOWNED, Lease, Owner
from bg_ingest.errors import Fenced, StaleRead, StoreError
from bg_ingest.ports.table import Put, Table
from bg_ingest.store import Store, keys
from bg_ingest.store.inbox import RequestKind
from bg_ingest.store.items import VERSION, build_item
from tests.fakes.clock import SetClock
from tests.harness.sample_values import USER, commit_connection, connection, reading, readings_commit_of

ME, YOU = Owner("me", demand={"acme/app/us": 0.5}), Owner("you")
SHARD = shard_of(USER)


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
        await store.ownership.remove_dead(ME)  # it has beaten since
    await store.ownership.remove_dead(beating)
    assert not (await store.ownership.snapshot()).owners
    with pytest.raises(StaleRead):
        await store.ownership.heartbeat(beating)


async def test_a_shard_is_taken_once_under_its_next_epoch_and_knows_who_had_it_before(store: Store) -> None:
    free = (await store.ownership.snapshot()).leases[:3]
    mine = await store.ownership.take(free, "me")
    assert mine == [Lease(shard, 1, "me") for shard in range(3)]
    assert await store.ownership.take(free, "you") == []
    await store.ownership.release([mine[0]])
    board = await store.ownership.snapshot()
    assert board.leases[:2] == (Lease(0, 1, None, "me"), mine[1])
    yours = await store.ownership.take(board.leases[:2], "you")  # the second as from a dead owner
    assert yours == [Lease(0, 2, "you", "me"), Lease(1, 2, "you", "me")]
    await store.ownership.release([mine[1]])  # no longer ours to give
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


async def owned_by(store: Store, owner: Owner) -> None:
    await store.ownership.register(owner)
    board = await store.ownership.snapshot()
    await store.ownership.take(board.leases, owner.id)


async def test_a_poll_is_requested_from_the_owner_of_the_connection(
    store: Store, table: Table, clock: SetClock
) -> None:
    ada = connection().id
    await store.inbox.request_poll(ada)
    [request] = await store.inbox.list_requests(UNOWNED)
    assert (request.connection, request.kind) == (ada, RequestKind.POLL)
    await owned_by(Store(table, clock), YOU)
    await store.inbox.request_poll(ada)
    assert [each.connection for each in await store.inbox.list_requests("you")] == [ada]


async def test_deleted_requests_are_gone_and_others_stay(store: Store, clock: SetClock) -> None:
    ada = connection().id
    await store.inbox.request_poll(ada)
    clock.advance(timedelta(seconds=1))
    await store.inbox.request_poll(ada)
    first, second = await store.inbox.list_requests(UNOWNED)
    await store.inbox.delete([first])
    assert await store.inbox.list_requests(UNOWNED) == [second]


async def test_requests_are_forwarded_to_the_new_owner(store: Store, table: Table, clock: SetClock) -> None:
    ada = connection().id
    await owned_by(store, ME)
    await store.inbox.request_poll(ada)
    requests = await store.inbox.list_requests("me")
    await store.inbox.forward(requests)
    assert await store.inbox.list_requests("me") == requests, "it is ours still"
    other = Store(table, clock)
    await other.ownership.register(YOU)
    await other.ownership.take([(await other.ownership.snapshot()).leases[SHARD]], "you")
    await store.ownership.snapshot()
    await store.inbox.forward(requests)
    assert not await store.inbox.list_requests("me")
    assert [each.connection for each in await store.inbox.list_requests("you")] == [ada]


async def test_a_commit_requests_publishing_only_from_the_process_that_relays_it(
    store: Store, table: Table, clock: SetClock
) -> None:
    other = Store(table, clock)
    await commit_connection(store)
    await owned_by(store, ME)
    await other.ownership.register(YOU)
    await other.ownership.snapshot()
    ours = await readings_commit_of(store.readings, [reading(1)])
    await store.readings.commit(ours)
    assert not await store.inbox.list_requests("me")
    theirs = await readings_commit_of(other.readings, [reading(2)])
    await other.readings.commit(theirs)
    assert [each.kind for each in await store.inbox.list_requests("me")] == [RequestKind.PUBLISH]


async def test_a_change_of_settings_and_its_request_are_one(store: Store) -> None:
    await commit_connection(store)
    await owned_by(store, ME)
    before = connection()
    found = await store.connections.get(before.id)
    assert found is not None
    changed = msgspec.structs.replace(found, worker=WorkerSettings(poll_interval_seconds=60))
    await store.connections.update(found, changed, request_poll=True)
    assert [each.kind for each in await store.inbox.list_requests("me")] == [RequestKind.POLL]
    with pytest.raises(Fenced):
        await store.connections.update(
            found, msgspec.structs.replace(found, worker=WorkerSettings(90)), request_poll=True
        )
    assert len(await store.inbox.list_requests("me")) == 1
