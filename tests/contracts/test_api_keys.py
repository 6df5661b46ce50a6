"""Stored API keys: creation, listing, revocation and deletion."""

from datetime import timedelta
from typing import Any

import pytest

from bg_ingest.domain.access import ApiKey, Scope
from bg_ingest.domain.ids import UserId
from bg_ingest.errors import StaleRead, StoreError
from bg_ingest.ports.table import Put, Table
from bg_ingest.store import Store, keys
from tests.fakes.clock import NOON
from tests.harness.sample_values import replaced_fields

ADA, BOB = UserId("ada"), UserId("bob")


def key(identity: str = "abc", **others: Any) -> ApiKey:
    known: dict[str, Any] = {"name": "dashboard", "digest": bytes(32), "scopes": frozenset({Scope.READINGS_READ})}
    return ApiKey(id=identity, made_at=NOON, **known | others)


WHOLE = key(
    "0z",
    scopes=frozenset(Scope),
    users=frozenset({ADA, BOB}),
    ends_at=NOON + timedelta(days=1),
    revoked_at=NOON + timedelta(hours=1),
    used_at=NOON,
)


async def test_what_was_added_is_there_as_it_was(store: Store) -> None:
    assert await store.keys.read_all() == []
    everyone, nobody = key(), key("zz9", users=frozenset())
    for each in (WHOLE, everyone, nobody):
        await store.keys.add(each)
    assert sorted(await store.keys.read_all(), key=lambda each: each.id) == [WHOLE, everyone, nobody]


async def test_an_id_is_given_once(store: Store) -> None:
    await store.keys.add(key())
    with pytest.raises(StaleRead):
        await store.keys.add(key(name="another"))
    assert await store.keys.read_all() == [key()]


async def test_a_revoked_key_stays_revoked_after_any_other_write(store: Store) -> None:
    await store.keys.add(key())
    assert await store.keys.revoke("abc", NOON)
    await store.keys.set_last_used("abc", NOON)
    assert await store.keys.revoke("abc", NOON)
    assert await store.keys.read_all() == [key(revoked_at=NOON, used_at=NOON)]


async def test_what_is_not_there_is_neither_revoked_nor_made(store: Store) -> None:
    assert not await store.keys.revoke("abc", NOON)
    await store.keys.set_last_used("abc", NOON)
    assert await store.keys.read_all() == []


async def test_an_erased_user_is_on_no_list_and_is_not_replaced(store: Store) -> None:
    await store.keys.add(WHOLE)
    await store.keys.add(key("one", users=frozenset({ADA})))
    await store.keys.add(key("all"))
    assert await store.keys.remove_user(ADA) == 2
    assert await store.keys.remove_user(ADA) == 0
    found = {each.id: each.users for each in await store.keys.read_all()}
    assert found == {"0z": {BOB}, "one": frozenset(), "all": None}


async def test_many_keys_are_all_read(store: Store) -> None:
    for number in range(230):
        await store.keys.add(key(f"k{number:03}"))
    assert len(await store.keys.read_all()) == 230


async def test_a_key_of_a_newer_version_is_left_alone(store: Store, table: Table) -> None:
    await store.keys.add(key())
    found = await table.get(keys.api_key("abc"))
    assert found is not None
    await table.write(Put(keys.api_key("abc"), found | {"v": 99}))
    with pytest.raises(StoreError, match="newer version"):
        await store.keys.revoke("abc", NOON)
    assert await store.keys.read_all() == [replaced_fields(key())]
