"""API keys are created with their text once, listed by age and revoked."""

from collections.abc import AsyncIterator
from datetime import timedelta

import anyio
import pytest

from bg_ingest.adapters.sqlite import open_table
from bg_ingest.domain.access import Scope, hash_key, parse_key_id
from bg_ingest.domain.ids import UserId
from bg_ingest.errors import NotFound
from bg_ingest.services.access.api_keys import ApiKeys
from bg_ingest.store import Store
from tests.harness.service import LoopClock


@pytest.fixture
async def api_keys() -> AsyncIterator[ApiKeys]:
    clock = LoopClock()
    async with open_table(None, clock) as table:
        yield ApiKeys(Store(table, clock).keys, clock)


async def test_the_text_of_a_new_key_names_its_id_and_only_its_digest_is_stored(api_keys: ApiKeys) -> None:
    created = await api_keys.create("dashboard", {Scope.READINGS_READ}, users={UserId("ada")})
    text = created.text.reveal()
    assert parse_key_id(text) == created.key.id
    (stored,) = await api_keys.list()
    assert stored == created.key
    assert stored.digest == hash_key(text)
    assert (stored.scopes, stored.users) == (frozenset({Scope.READINGS_READ}), frozenset({UserId("ada")}))


async def test_two_keys_differ_in_id_and_text(api_keys: ApiKeys) -> None:
    first, second = [await api_keys.create("twin", {Scope.ADMIN}) for _ in range(2)]
    assert first.key.id != second.key.id
    assert first.text.reveal() != second.text.reveal()


async def test_keys_are_listed_by_age_with_expired_and_revoked_ones(api_keys: ApiKeys) -> None:
    names = ["first", "second", "third"]
    ids = []
    for name in names:
        created = await api_keys.create(name, {Scope.ADMIN}, ends_at=LoopClock().now() + timedelta(seconds=2))
        ids.append(created.key.id)
        await anyio.sleep(1)
    await api_keys.revoke(ids[0])
    await anyio.sleep(10)
    assert [key.name for key in await api_keys.list()] == names


async def test_only_a_known_key_can_be_revoked(api_keys: ApiKeys) -> None:
    with pytest.raises(NotFound, match="bgi_"):
        await api_keys.revoke("unknown")
