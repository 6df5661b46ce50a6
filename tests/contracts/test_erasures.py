"""Erasure of a user: the tombstone, the deleted items, and the writes that are refused afterwards."""

from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from bg_ingest.domain.changes import UserErased
from bg_ingest.domain.commits import (
    NOTHING_ERASED,
    Commit,
    ConnectionUpdate,
    Erasure,
    ErasureCounts,
    Head,
    PendingErasure,
    plan_erasure,
)
from bg_ingest.domain.connections import ConnectionState
from bg_ingest.domain.ids import ConnectionId, UserId, shard_of
from bg_ingest.domain.quarantine import QuarantinedRecord, QuarantinePage
from bg_ingest.errors import Fenced, StaleRead
from bg_ingest.ports.table import Put, Table
from bg_ingest.store import Store, keys
from bg_ingest.store.items import build_item
from bg_ingest.store.outbox import OutboxEntry
from tests.fakes.clock import NOON
from tests.harness.sample_values import (
    ACME,
    USER,
    commit_connection,
    commit_readings,
    connection,
    connection_commit,
    grant,
    reading,
    readings_commit_of,
    replaced_fields,
    unpublished_changes,
)
from tests.harness.table_dump import find_mentions, read_all_items

OTHER = UserId("ada.2")
SOON = NOON + timedelta(minutes=10)


async def live(store: Store, user: UserId = USER, days: int = 2) -> None:
    """Give a user a connection, readings, a quarantine page, and a connect that was begun."""
    identity = ConnectionId(user, "acme")
    await commit_connection(store, connection(id=identity, provider_account=f"account of {user}"))
    for day in range(days):
        batch = [reading(day * 288 + number) for number in range(144)]
        await store.commits.write(await readings_commit_of(store.readings, batch, user))
    head = await store.readings.head(user)
    assert head is not None
    page = QuarantinePage(
        NOON,
        1,
        (QuarantinedRecord("why", b"digest", b"sealed", NOON), QuarantinedRecord("why", b"other", b"sealed", NOON)),
    )
    await store.commits.write(Commit(before=head, head=head, quarantine_pages=(page,)))
    await store.states.add(user, f"state of {user}", b"content", SOON)


async def items_of(store: Store, user: UserId = USER) -> Erasure:
    return plan_erasure(user, await store.readings.head(user), await store.connections.list_for_user(user), NOON)


async def erase(store: Store, user: UserId = USER) -> ErasureCounts:
    begun = await items_of(store, user)
    return (await store.erasures.begin(begun)).merge(await delete_all(store, begun.pending))


async def delete_all(store: Store, erased: PendingErasure) -> ErasureCounts:
    removed = NOTHING_ERASED
    while (some := await store.erasures.delete_next(erased)) is not None:
        removed = removed.merge(some)
    return removed


async def test_nothing_stays_of_an_erased_user_but_the_tombstone_and_its_event(store: Store, table: Table) -> None:
    await live(store)
    await live(store, OTHER)
    removed = await erase(store)
    assert removed == replace(NOTHING_ERASED, readings=288, changes=3, connections=1, grants=1, quarantined=2, others=1)
    about = {key: found for key, found in (await find_mentions(table, USER)).items() if OTHER not in "".join(key)}
    assert about.keys() - {key for key, found in about.items() if OTHER in str(found)} == {
        keys.head(USER),
        keys.change(USER, 4),
        keys.outbox(USER, 4),
    }
    head = await store.readings.head(USER)
    assert head == Head(USER, 4, head.recorded_at if head else None, erased=True, published=3)
    (change,) = await unpublished_changes(store)
    assert (change.number, change.data) == (4, UserErased())
    assert await store.states.consume(f"state of {USER}", NOON) is None
    assert await store.erasures.pending_for(USER) is None


async def test_another_user_loses_nothing(store: Store, table: Table) -> None:
    await live(store, OTHER)
    before = await read_all_items(table)
    await live(store)
    await erase(store)
    after = await read_all_items(table)
    assert before.items() <= after.items()


async def test_once_published_the_erasures_own_event_goes_too(store: Store, table: Table) -> None:
    await live(store)
    await erase(store)
    store.outbox.published.confirm(USER, 4)
    await store.outbox.settle_erasure(OutboxEntry(shard_of(USER), USER, 4, has_row=True))
    assert (await find_mentions(table, USER)).keys() == {keys.head(USER)}


async def test_what_was_seen_before_can_no_longer_be_written(store: Store, table: Table) -> None:
    await live(store)
    seen, held = await store.connections.get_with_grant(ACME)
    head = await store.readings.head(USER)
    assert seen is not None
    assert held is not None
    assert head is not None
    commit = await readings_commit_of(store.readings, [reading(2_000)])
    writes: list[Any] = [
        lambda: store.commits.write(commit),
        lambda: store.commits.write(
            replaced_fields(commit, connection_update=ConnectionUpdate(seen, replaced_fields(seen, watermark=NOON)))
        ),
        lambda: store.commits.write(Commit(before=head, head=head, quarantine_pages=(QuarantinePage(0, 1, ()),))),
        lambda: store.commits.write(connection_commit(head, seen, replaced_fields(seen, state=ConnectionState.PAUSED))),
        lambda: store.connections.update(seen, replaced_fields(seen, last_outcome="read")),
        lambda: store.grants.claim(held, "claim"),
        lambda: store.grants.store(grant(2)),
    ]
    begun = await items_of(store)
    await store.erasures.begin(begun)
    for write in writes:
        with pytest.raises((StaleRead, Fenced)):
            await write()
    await delete_all(store, begun.pending)
    for write in writes:
        with pytest.raises((StaleRead, Fenced)):
            await write()
    assert (await find_mentions(table, USER)).keys() == {
        keys.head(USER),
        keys.change(USER, 4),
        keys.outbox(USER, 4),
    }


async def test_an_erasure_of_what_has_changed_since_is_outdated(store: Store) -> None:
    await live(store)
    begun = await items_of(store)
    await store.commits.write(await readings_commit_of(store.readings, [reading(2_000)]))
    with pytest.raises(StaleRead):
        await store.erasures.begin(begun)
    assert len(await commit_readings(store.readings)) == 289
    assert await store.erasures.pending_for(USER) is None


async def test_what_is_left_is_found_until_it_is_gone(store: Store) -> None:
    await live(store)
    await live(store, OTHER)
    ours, theirs = (await items_of(store)), (await items_of(store, OTHER))
    for begun in (ours, theirs):
        await store.erasures.begin(begun)
    assert [each async for each in store.erasures.iter_pending()] == [ours.pending, theirs.pending]
    await delete_all(store, ours.pending)
    assert [each async for each in store.erasures.iter_pending()] == [theirs.pending]
    assert await store.erasures.pending_for(OTHER) == theirs.pending


async def test_until_nothing_is_left_the_user_cannot_connect_and_then_can(store: Store) -> None:
    await live(store)
    begun = await items_of(store)
    await store.erasures.begin(begun)
    for _ in range(2):
        with pytest.raises(Fenced):
            await commit_connection(store, connection(generation="second"))
        assert await store.erasures.delete_next(begun.pending) is not None
    await delete_all(store, begun.pending)
    await commit_connection(store, connection(generation="second"))
    head = await store.readings.head(USER)
    assert head is not None
    assert (head.last_change, head.erased) == (5, False)


async def test_who_comes_late_deletes_nothing_of_a_new_life(store: Store, table: Table) -> None:
    await live(store)
    begun = await items_of(store)
    await store.erasures.begin(begun)
    await delete_all(store, begun.pending)
    await commit_connection(store, connection(generation="second"))
    await store.commits.write(await readings_commit_of(store.readings, [reading(1)]))
    before = await read_all_items(table)
    assert await store.erasures.delete_next(begun.pending) is None
    assert await read_all_items(table) == before


async def test_a_user_erased_again_after_a_new_life_is_gone_again(store: Store, table: Table) -> None:
    await live(store)
    first = await items_of(store)
    await store.erasures.begin(first)
    await delete_all(store, first.pending)
    await live(store)
    second = await items_of(store)
    await store.erasures.begin(second)
    assert await store.erasures.delete_next(first.pending) is None, "a new erasure replaced this one"
    await delete_all(store, second.pending)
    assert (await find_mentions(table, USER)).keys() == {
        keys.head(USER),
        keys.change(USER, second.change.number),
        keys.outbox(USER, second.change.number),
    }


async def test_rows_of_unknown_kinds_and_unreadable_ones_are_deleted_too(store: Store, table: Table) -> None:
    await live(store, days=0)
    strange = [(keys.user_pk(USER), sk) for sk in ("aside#x", "gap#dexcom#1", "readings#1", "zebra", "Head", "1")]
    for key in strange:
        await table.write(Put(key, build_item(readings=b"\xc1 no MessagePack") | {"v": 9}))
    removed = await erase(store)
    assert (removed.gaps, removed.others, removed.readings) == (1, 6, 0)
    assert not (await read_all_items(table)).keys() & set(strange)


async def test_a_connection_in_any_state_gives_its_provider_account_back(store: Store) -> None:
    for state in (ConnectionState.PAUSED, ConnectionState.REAUTHORIZATION_REQUIRED, ConnectionState.PROVIDER_FORBIDDEN):
        await commit_connection(store, connection(state, generation=str(state)))
        await erase(store)
        assert await store.connections.find_user("acme", "us", "account-1") is None


async def test_who_only_began_to_connect_can_be_erased_too(store: Store, table: Table) -> None:
    await store.states.add(USER, "a state", b"content", SOON)
    await store.connections.add_connecting(
        connection(ConnectionState.CONNECTING, provider_account=None, expires_at=SOON)
    )
    assert await erase(store) == replace(NOTHING_ERASED, connections=1, others=1)
    assert await store.states.consume("a state", NOON) is None
    assert keys.connection(ACME) not in await read_all_items(table)
