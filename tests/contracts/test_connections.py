"""Connections change from the value that was read to the new value, or not at all.

The directory and the provider accounts change in the same transaction.
"""

from datetime import timedelta

import pytest

from bg_ingest.domain.commits import Commit, ConnectionUpdate
from bg_ingest.domain.connections import Connection, ConnectionState, DirectoryRow, WorkerSettings
from bg_ingest.domain.ids import ConnectionId, UserId, shard_of
from bg_ingest.domain.windows import Window
from bg_ingest.errors import Fenced
from bg_ingest.ports.table import Table
from bg_ingest.store import Store
from tests.fakes.clock import NOON, SetClock
from tests.fakes.counting_table import CountingTable
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

EVERYTHING = connection(
    reason="because",
    worker=WorkerSettings(300, paused=True, backfill_days=0),
    watermark=NOON,
    available=Window(NOON - timedelta(days=9), NOON),
    backfill=Window(NOON - timedelta(days=8), NOON - timedelta(days=1)),
    newest_reading_at=NOON + timedelta(milliseconds=1),
    cadence_seconds=60,
    delay_seconds=0,
    last_outcome="read",
    outcome_at=NOON,
    epoch=3,
)


async def directory_rows(store: Store) -> list[DirectoryRow]:
    return [each async for each in store.connections.iter_directory(shard_of(USER))]


async def test_a_connection_is_read_back_as_it_was(store: Store) -> None:
    await commit_connection(store, EVERYTHING)
    assert await store.connections.get(ACME) == EVERYTHING
    assert await store.connections.get_with_grant(ACME) == (EVERYTHING, grant())
    assert await store.connections.list_for_user(USER) == [EVERYTHING]


async def test_who_has_no_connection_has_none(store: Store) -> None:
    assert await store.connections.get(ACME) is None
    assert await store.connections.get_with_grant(ACME) == (None, None)
    assert await store.connections.list_for_user(USER) == []
    assert await directory_rows(store) == []
    assert await store.connections.find_user("acme", "us", "account-1") is None


async def test_all_of_a_users_connections_are_found_and_no_others(store: Store) -> None:
    mine = [connection(id=ConnectionId(USER, name), provider_account=name) for name in ("acme", "other")]
    for each in (*mine, connection(id=ConnectionId(UserId("ada.b"), "acme"), provider_account="hers")):
        await commit_connection(store, each)
    assert await store.connections.list_for_user(USER) == mine


@pytest.mark.parametrize("field", ["watermark", "newest_reading_at", "outcome_at", "backfill", "reason", "worker"])
async def test_what_changed_since_it_was_read_is_not_written_over(store: Store, field: str) -> None:
    await commit_connection(store, EVERYTHING)
    empty = replaced_fields(EVERYTHING, **{field: WorkerSettings() if field == "worker" else None})
    await store.connections.update(EVERYTHING, empty)
    with pytest.raises(Fenced):
        await store.connections.update(EVERYTHING, replaced_fields(empty, **{field: getattr(connection(), field)}))
    other = {"reason": "other", "worker": WorkerSettings(60), "backfill": Window(NOON, LATER)}.get(field, LATER)
    with pytest.raises(Fenced):
        await store.connections.update(EVERYTHING, replaced_fields(EVERYTHING, **{field: other}))
    assert await store.connections.get(ACME) == empty


async def test_what_changed_elsewhere_is_kept(store: Store) -> None:
    active = await commit_connection(store)
    await store.connections.update(active, replaced_fields(active, worker=WorkerSettings(300)))
    await store.connections.update(active, replaced_fields(active, watermark=LATER))
    assert await store.connections.get(ACME) == replaced_fields(active, worker=WorkerSettings(300), watermark=LATER)


async def test_two_who_each_move_an_end_of_the_backfill_do_not_both_succeed(store: Store) -> None:
    """Both updates would leave a window that ends before it starts: the connection could never be decoded again."""
    window = Window(NOON - 90 * DAY, NOON - 30 * DAY)
    before = await commit_connection(store, connection(backfill=window))
    await store.connections.update(before, replaced_fields(before, backfill=Window(window.start, NOON - 60 * DAY)))
    with pytest.raises(Fenced):
        await store.connections.update(before, replaced_fields(before, backfill=Window(NOON - 45 * DAY, window.end)))


@pytest.mark.parametrize("change", [{"state": ConnectionState.PAUSED}, {"generation": "second"}])
async def test_no_step_is_made_from_another_state_or_generation(store: Store, change: dict[str, str]) -> None:
    active = await commit_connection(store)
    await store.connections.update(active, replaced_fields(active, **change))
    with pytest.raises(Fenced):
        await store.connections.update(active, replaced_fields(active, watermark=LATER))


async def test_an_owner_of_an_earlier_epoch_writes_nothing(store: Store) -> None:
    active = await commit_connection(store, connection(epoch=1))
    await store.connections.update(active, replaced_fields(active, epoch=2))
    with pytest.raises(Fenced):
        await store.connections.update(active, replaced_fields(active, watermark=LATER))


async def test_no_step_is_made_from_a_connection_that_is_gone(store: Store) -> None:
    with pytest.raises(Fenced):
        await store.connections.update(connection(), connection(state=ConnectionState.PAUSED))
    with pytest.raises(Fenced):
        await store.connections.update(connection(), connection())
    assert await store.connections.get(ACME) is None
    assert await directory_rows(store) == []


async def test_a_connect_that_saw_no_connection_does_not_replace_one(store: Store) -> None:
    active = await commit_connection(store)
    head = await store.readings.head(USER)
    with pytest.raises(Fenced):
        await store.commits.write(connection_commit(head, None, connection(generation="second"), grant=grant()))
    assert await store.connections.get(ACME) == active


async def test_a_connecting_connection_is_there_until_it_expires(store: Store, clock: SetClock) -> None:
    begun = connection(ConnectionState.CONNECTING, provider_account=None, expires_at=LATER)
    await store.connections.add_connecting(begun)
    assert await store.connections.get(ACME) == begun
    assert await store.connections.list_for_user(USER) == [begun]
    clock.advance(timedelta(minutes=15))
    assert await store.connections.get(ACME) is None
    assert await store.connections.list_for_user(USER) == []
    assert await store.connections.get_with_grant(ACME) == (None, None)


async def test_a_later_connect_replaces_one_that_is_under_way(store: Store) -> None:
    for generation in ("first", "second"):
        await store.connections.add_connecting(
            connection(ConnectionState.CONNECTING, generation=generation, expires_at=LATER)
        )
    current = await store.connections.get(ACME)
    assert current is not None
    assert current.generation == "second"


async def test_beginning_a_connect_leaves_an_existing_connection_as_it_is(store: Store) -> None:
    active = await commit_connection(store)
    await store.connections.add_connecting(
        connection(ConnectionState.CONNECTING, generation="second", expires_at=LATER)
    )
    assert await store.connections.get(ACME) == active


@pytest.mark.parametrize("minutes", [1, 16])
async def test_a_finished_connect_replaces_its_beginning_and_no_longer_expires(
    store: Store, clock: SetClock, minutes: int
) -> None:
    await store.connections.add_connecting(connection(ConnectionState.CONNECTING, generation="begun", expires_at=LATER))
    clock.advance(timedelta(minutes=minutes))
    active = await commit_connection(store, connection(generation="connected"))
    clock.advance(timedelta(days=400))
    assert await store.connections.get(ACME) == active


async def test_a_refusal_is_believed_only_of_the_grant_that_is_stored(store: Store) -> None:
    active = await commit_connection(store)
    await store.grants.store(grant(2))
    head = await store.readings.head(USER)
    lost = replaced_fields(active, state=ConnectionState.REAUTHORIZATION_REQUIRED)
    for refused in (grant(1), grant(2, generation="other")):
        with pytest.raises(Fenced):
            await store.commits.write(connection_commit(head, active, lost, refused_grant=refused))
        with pytest.raises(Fenced):
            await store.commits.write(connection_commit(head, active, lost, refused_grant=refused, drop_grant=True))
    await store.commits.write(connection_commit(head, active, lost, refused_grant=grant(2)))
    assert await store.connections.get_with_grant(ACME) == (lost, grant(2))


async def test_a_grant_cannot_be_dropped_without_its_connections_step(store: Store) -> None:
    await commit_connection(store)
    head = await store.readings.head(USER)
    assert head is not None
    with pytest.raises(ValueError, match="needs an update of its connection"):
        await store.commits.write(Commit(before=head, head=head, drop_grant=True))


async def test_reading_a_connection_with_its_grant_costs_one_read_and_noting_one_write(table: Table) -> None:
    counting = CountingTable(table)
    store = Store(counting, SetClock())
    active = await commit_connection(store)
    before = counting.asked
    await store.connections.get_with_grant(ACME)
    await store.connections.update(active, replaced_fields(active, watermark=LATER))
    assert [now - then for now, then in zip(counting.asked, before, strict=True)] == [1, 1, 0]


async def test_a_step_from_a_connecting_connection_drops_nothing_of_it(store: Store) -> None:
    """Attributes outside the update stay, also those that a newer version added."""
    begun = connection(ConnectionState.CONNECTING, provider_account=None, expires_at=LATER, worker=WorkerSettings(600))
    await store.connections.add_connecting(begun)
    active = replaced_fields(begun, state=ConnectionState.ACTIVE, provider_account="account-1", expires_at=None)
    commit = connection_commit(None, begun, active, grant=grant())
    assert commit.connection_update == ConnectionUpdate(begun, active)
    await store.commits.write(commit)
    assert await store.connections.get(ACME) == active


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
