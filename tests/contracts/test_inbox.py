"""Requests reach the owner of a shard, in the transaction of the write that causes them."""

from datetime import timedelta

import msgspec
import pytest

from bg_ingest.domain.connections import WorkerSettings
from bg_ingest.domain.ids import shard_of
from bg_ingest.domain.ownership import UNOWNED, Owner
from bg_ingest.errors import Fenced
from bg_ingest.ports.table import Table
from bg_ingest.store import Store
from bg_ingest.store.inbox import RequestKind
from tests.fakes.clock import SetClock
from tests.harness.sample_values import USER, commit_connection, connection, reading, readings_commit_of

ME, YOU = Owner("me", demand={"acme/app/us": 0.5}), Owner("you")

SHARD = shard_of(USER)


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
    assert await store.inbox.list_requests("me") == requests, "the shard is still ours"
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
    await store.commits.write(ours)
    assert not await store.inbox.list_requests("me")
    theirs = await readings_commit_of(other.readings, [reading(2)])
    await other.commits.write(theirs)
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
