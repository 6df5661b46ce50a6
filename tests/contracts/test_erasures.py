"""An erased user: the tombstone, what is deleted, and what cannot be written any more."""

from datetime import timedelta
from typing import Any

import pytest

from bg_ingest.adapters.table import keys
from bg_ingest.adapters.table.protocol import Put, Table
from bg_ingest.adapters.table.records import item
from bg_ingest.domain.commits import Commit, Head, SetAside, Shelf, Step
from bg_ingest.domain.connections import State
from bg_ingest.domain.erasure import Erased, Erasure, Removed, erasure
from bg_ingest.domain.events import UserErased
from bg_ingest.domain.ids import ConnectionId, UserId, shard_of
from bg_ingest.errors import Fenced, Outdated
from bg_ingest.ports import Pending, Store
from tests.contracts.values import (
    ACME,
    USER,
    altered,
    connect,
    connection,
    deciding,
    grant,
    reading,
    stepping,
    stored,
    waiting,
)
from tests.fakes.clock import NOON
from tests.whole_table import everything, mentions

OTHER = UserId("ada.2")
SOON = NOON + timedelta(minutes=10)


async def live(store: Store, user: UserId = USER, days: int = 2) -> None:
    """Give a user a connection, readings, a shelf, and a connect that was begun."""
    identity = ConnectionId(user, "acme")
    await connect(store, connection(id=identity, provider_account=f"account of {user}"))
    for day in range(days):
        batch = [reading(day * 288 + number) for number in range(144)]
        await store.readings.commit(await deciding(store.readings, batch, user))
    head = await store.readings.head(user)
    assert head is not None
    shelf = Shelf(NOON, 1, (SetAside("why", b"digest", b"sealed", NOON), SetAside("why", b"other", b"sealed", NOON)))
    await store.readings.commit(Commit(before=head, head=head, shelves=(shelf,)))
    await store.states.put(user, f"state of {user}", b"content", SOON)


async def of(store: Store, user: UserId = USER) -> Erasure:
    return erasure(user, await store.readings.head(user), await store.connections.of_user(user), NOON)


async def erase(store: Store, user: UserId = USER) -> Removed:
    begun = await of(store, user)
    return (await store.erasures.begin(begun)).plus(await cleared(store, begun.left))


async def cleared(store: Store, erased: Erased) -> Removed:
    removed = Removed()
    while (some := await store.erasures.clear(erased)) is not None:
        removed = removed.plus(some)
    return removed


async def test_nothing_stays_of_an_erased_user_but_the_tombstone_and_its_event(store: Store, table: Table) -> None:
    await live(store)
    await live(store, OTHER)
    removed = await erase(store)
    assert removed == Removed(readings=288, changes=3, connections=1, grants=1, quarantined=2, others=1)
    about = {key: found for key, found in (await mentions(table, USER)).items() if OTHER not in "".join(key)}
    assert about.keys() - {key for key, found in about.items() if OTHER in str(found)} == {
        keys.head(USER),
        keys.change(USER, 4),
        keys.outbox(shard_of(USER), USER, 4),
    }
    head = await store.readings.head(USER)
    assert head == Head(USER, 4, head.recorded_at if head else None, erased=True)
    (told,) = await waiting(store)
    assert (told.number, told.what) == (4, UserErased())
    assert await store.states.take(f"state of {USER}", NOON) is None
    assert await store.erasures.left_of(USER) is None


async def test_another_user_loses_nothing(store: Store, table: Table) -> None:
    await live(store, OTHER)
    before = await everything(table)
    await live(store)
    await erase(store)
    after = await everything(table)
    assert before.items() <= after.items()


async def test_once_told_the_erasures_own_event_goes_too(store: Store, table: Table) -> None:
    await live(store)
    await erase(store)
    await store.outbox.close(Pending(shard_of(USER), USER, 4))
    assert (await mentions(table, USER)).keys() == {keys.head(USER)}


async def test_what_was_seen_before_can_no_longer_be_written(store: Store, table: Table) -> None:
    await live(store)
    seen, held = await store.connections.with_grant(ACME)
    head = await store.readings.head(USER)
    assert seen is not None
    assert held is not None
    assert head is not None
    commit = await deciding(store.readings, [reading(2_000)])
    writes: list[Any] = [
        lambda: store.readings.commit(commit),
        lambda: store.readings.commit(altered(commit, step=Step(seen, altered(seen, watermark=NOON)))),
        lambda: store.readings.commit(Commit(before=head, head=head, shelves=(Shelf(0, 1, ()),))),
        lambda: store.readings.commit(stepping(head, seen, altered(seen, state=State.PAUSED))),
        lambda: store.connections.note(seen, altered(seen, last_outcome="read")),
        lambda: store.connections.claim_grant(held, "claim"),
        lambda: store.connections.store_grant(grant(2)),
    ]
    begun = await of(store)
    await store.erasures.begin(begun)
    for write in writes:
        with pytest.raises((Outdated, Fenced)):
            await write()
    await cleared(store, begun.left)
    for write in writes:
        with pytest.raises((Outdated, Fenced)):
            await write()
    assert (await mentions(table, USER)).keys() == {
        keys.head(USER),
        keys.change(USER, 4),
        keys.outbox(shard_of(USER), USER, 4),
    }


async def test_an_erasure_of_what_has_changed_since_is_outdated(store: Store) -> None:
    await live(store)
    begun = await of(store)
    await store.readings.commit(await deciding(store.readings, [reading(2_000)]))
    with pytest.raises(Outdated):
        await store.erasures.begin(begun)
    assert len(await stored(store.readings)) == 289
    assert await store.erasures.left_of(USER) is None


async def test_what_is_left_is_found_until_it_is_gone(store: Store) -> None:
    await live(store)
    await live(store, OTHER)
    ours, theirs = (await of(store)), (await of(store, OTHER))
    for begun in (ours, theirs):
        await store.erasures.begin(begun)
    assert [each async for each in store.erasures.unfinished()] == [ours.left, theirs.left]
    await cleared(store, ours.left)
    assert [each async for each in store.erasures.unfinished()] == [theirs.left]
    assert await store.erasures.left_of(OTHER) == theirs.left


async def test_until_nothing_is_left_the_user_cannot_connect_and_then_can(store: Store) -> None:
    await live(store)
    begun = await of(store)
    await store.erasures.begin(begun)
    for _ in range(2):
        with pytest.raises(Fenced):
            await connect(store, connection(generation="second"))
        assert await store.erasures.clear(begun.left) is not None
    await cleared(store, begun.left)
    await connect(store, connection(generation="second"))
    head = await store.readings.head(USER)
    assert head is not None
    assert (head.last_change, head.erased) == (5, False)


async def test_who_comes_late_deletes_nothing_of_a_new_life(store: Store, table: Table) -> None:
    await live(store)
    begun = await of(store)
    await store.erasures.begin(begun)
    await cleared(store, begun.left)
    await connect(store, connection(generation="second"))
    await store.readings.commit(await deciding(store.readings, [reading(1)]))
    before = await everything(table)
    assert await store.erasures.clear(begun.left) is None
    assert await everything(table) == before


async def test_a_user_erased_again_after_a_new_life_is_gone_again(store: Store, table: Table) -> None:
    await live(store)
    first = await of(store)
    await store.erasures.begin(first)
    await cleared(store, first.left)
    await live(store)
    second = await of(store)
    await store.erasures.begin(second)
    assert await store.erasures.clear(first.left) is None, "it is another erasure now"
    await cleared(store, second.left)
    assert (await mentions(table, USER)).keys() == {
        keys.head(USER),
        keys.change(USER, second.change.number),
        keys.outbox(shard_of(USER), USER, second.change.number),
    }


async def test_rows_of_kinds_nobody_knows_and_ones_that_cannot_be_read_go_too(store: Store, table: Table) -> None:
    await live(store, days=0)
    strange = [(keys.user_pk(USER), sk) for sk in ("aside#x", "gap#dexcom#1", "readings#1", "zebra", "Head", "1")]
    for key in strange:
        await table.write(Put(key, item(readings=b"\xc1 no MessagePack") | {"v": 9}))
    removed = await erase(store)
    assert (removed.gaps, removed.others, removed.readings) == (1, 6, 0)
    assert not (await everything(table)).keys() & set(strange)


async def test_a_connection_in_any_state_gives_its_provider_account_back(store: Store) -> None:
    for state in (State.PAUSED, State.REAUTHORIZATION_REQUIRED, State.PROVIDER_FORBIDDEN):
        await connect(store, connection(state, generation=str(state)))
        await erase(store)
        assert await store.connections.user_of("acme", "us", "account-1") is None


async def test_who_only_began_to_connect_can_be_erased_too(store: Store, table: Table) -> None:
    await store.states.put(USER, "a state", b"content", SOON)
    await store.connections.begin(connection(State.CONNECTING, provider_account=None, expires_at=SOON))
    assert await erase(store) == Removed(connections=1, others=1)
    assert await store.states.take("a state", NOON) is None
    assert keys.connection(ACME) not in await everything(table)
