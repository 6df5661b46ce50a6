"""The directory and the provider accounts change in the transaction of their connection."""

from datetime import timedelta

import pytest

from bg_ingest.domain.connections import Connection, ConnectionState, DirectoryRow, WorkerSettings
from bg_ingest.domain.ids import ConnectionId, UserId, shard_of
from bg_ingest.errors import Fenced
from bg_ingest.store import Store
from tests.fakes.clock import NOON
from tests.harness.sample_values import (
    ACME,
    USER,
    commit_connection,
    connection,
    connection_commit,
    grant,
    replaced_fields,
)

LATER, DAY = NOON + timedelta(minutes=15), timedelta(days=1)


async def directory_rows(store: Store) -> list[DirectoryRow]:
    return [each async for each in store.connections.iter_directory(shard_of(USER))]


async def update_connection(store: Store, before: Connection, after: Connection, **others: object) -> None:
    head = await store.readings.head(USER)
    await store.commits.write(connection_commit(head, before, after, **others))


async def test_the_directory_lists_what_has_a_grant_with_what_is_needed_to_plan(store: Store) -> None:
    await store.connections.add_connecting(connection(ConnectionState.CONNECTING, expires_at=LATER))
    assert await directory_rows(store) == []
    active = await commit_connection(store)
    assert await directory_rows(store) == [DirectoryRow(ACME, None, paused=False)]
    faster = replaced_fields(active, worker=WorkerSettings(300))
    await store.connections.update(active, faster)
    assert await directory_rows(store) == [DirectoryRow(ACME, 300, paused=False)]
    paused = replaced_fields(faster, state=ConnectionState.PAUSED)
    await update_connection(store, faster, paused)
    assert await directory_rows(store) == [DirectoryRow(ACME, 300, paused=True)]
    lost = replaced_fields(paused, state=ConnectionState.REAUTHORIZATION_REQUIRED)
    await update_connection(store, paused, lost)
    assert await directory_rows(store) == [DirectoryRow(ACME, 300, paused=False)]
    await update_connection(store, lost, replaced_fields(lost, state=ConnectionState.DISCONNECTED), drop_grant=True)
    assert await directory_rows(store) == []


async def test_a_shards_directory_is_read_whole_and_holds_no_other_shards(store: Store) -> None:
    users = [UserId(f"user-{number}") for number in range(3000)]
    mine = [user for user in users if shard_of(user) == 0]
    other = next(user for user in users if shard_of(user) == 1)
    for user in (*mine, other):
        await commit_connection(store, connection(id=ConnectionId(user, "acme"), provider_account=user))
    found = [each.id.user async for each in store.connections.iter_directory(0)]
    assert found == sorted(mine)


async def test_disconnecting_forgets_the_grant_and_frees_the_provider_account(store: Store) -> None:
    active = await commit_connection(store)
    assert await store.connections.find_user("acme", "us", "account-1") == USER
    gone = replaced_fields(active, state=ConnectionState.DISCONNECTED)
    await update_connection(store, active, gone, drop_grant=True)
    assert await store.connections.get_with_grant(ACME) == (gone, None)
    assert await store.connections.find_user("acme", "us", "account-1") is None

    await commit_connection(store, replaced_fields(active, generation="second"))
    assert await store.connections.find_user("acme", "us", "account-1") == USER


async def test_a_provider_account_belongs_to_one_user(store: Store) -> None:
    await commit_connection(store)
    hers = connection(id=ConnectionId(UserId("bea"), "acme"))
    with pytest.raises(Fenced):
        await commit_connection(store, hers)
    assert await store.connections.find_user("acme", "us", "account-1") == USER
    assert await store.connections.get_with_grant(hers.id) == (None, None)
    assert await store.readings.head(hers.id.user) is None


async def test_a_provider_account_of_another_region_is_another(store: Store) -> None:
    await commit_connection(store)
    await commit_connection(store, connection(id=ConnectionId(UserId("bea"), "acme"), region="ou"))
    assert await store.connections.find_user("acme", "ou", "account-1") == "bea"


async def test_connecting_another_provider_account_frees_the_first(store: Store) -> None:
    await commit_connection(store)
    await commit_connection(store, connection(generation="second", provider_account="account-2"))
    assert await store.connections.find_user("acme", "us", "account-1") is None
    assert await store.connections.find_user("acme", "us", "account-2") == USER


async def test_connecting_the_same_provider_account_again_keeps_it(store: Store) -> None:
    active = await commit_connection(store)
    again = await commit_connection(store, replaced_fields(active, generation="second"))
    assert await store.connections.find_user("acme", "us", "account-1") == USER
    assert await store.connections.get_with_grant(ACME) == (again, grant(generation="second"))
