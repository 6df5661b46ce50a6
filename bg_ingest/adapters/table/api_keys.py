"""The port Keys over a table: all keys lie together, and are read as a whole."""

from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime

import msgspec

from bg_ingest.adapters.table import keys
from bg_ingest.adapters.table.guarded import Guarded, perform
from bg_ingest.adapters.table.protocol import Absent, ConditionFailed, Equals, Exists, Item, Key, Put, Table, Update
from bg_ingest.adapters.table.records import OURS, Found, epoch_ms, instant, is_newer, item, newer
from bg_ingest.domain.columns import milliseconds
from bg_ingest.domain.credentials import ApiKey, scopes_in
from bg_ingest.domain.ids import UserId
from bg_ingest.errors import Outdated

_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.decode


class TableKeys:
    def __init__(self, table: Table) -> None:
        self._table = table

    async def all(self) -> Sequence[ApiKey]:
        return [_key_of(key[1], found) for key, found in await self._rows()]

    async def add(self, key: ApiKey) -> None:
        await perform(self._table, [Guarded(Put(keys.api_key(key.id), _key_item(key), (Absent(),)), Outdated)])

    async def revoke(self, key_id: str, at: datetime) -> bool:
        """Hold on to nothing but that there is one: whatever else changes, it stays revoked."""
        return await self._update(key_id, item(revoked_at=milliseconds(at)))

    async def note_used(self, key_id: str, at: datetime) -> None:
        await self._update(key_id, item(used_at=milliseconds(at)))

    async def forget(self, user: UserId) -> int:
        listed = [(key, found, _users_of(found)) for key, found in await self._rows()]
        naming = [(key, found, users - {user}) for key, found, users in listed if users and user in users]
        for key, found, others in naming:
            # Lists only ever get shorter: a write in between was another erasure's, and is to be seen first.
            same = Equals("users", found["users"])
            shorter = Update(key, {"users": _packed(others)}, (), (Exists(), OURS, same))
            await perform(self._table, [Guarded(shorter, Outdated)])
        return len(naming)

    async def _rows(self) -> Sequence[tuple[Key, Item]]:
        async with aclosing(self._table.query(keys.API_KEYS, *keys.KEY_IDS)) as pages:
            return [row async for page in pages for row in page]

    async def _update(self, key_id: str, changed: Item) -> bool:
        try:
            await self._table.write(Update(keys.api_key(key_id), changed, (), (Exists(), OURS)))
        except ConditionFailed as failed:
            if is_newer(failed.met[0]):
                raise newer() from None
            return False
        return True


def _key_item(key: ApiKey) -> Item:
    return item(
        name=key.name,
        digest=key.digest,
        scopes=" ".join(sorted(key.scopes)),
        users=None if key.users is None else _packed(key.users),
        made_at=milliseconds(key.made_at),
        ends_at=epoch_ms(key.ends_at),
        revoked_at=epoch_ms(key.revoked_at),
        used_at=epoch_ms(key.used_at),
    )


def _key_of(key_id: str, found: Found) -> ApiKey:
    return ApiKey(
        id=key_id,
        name=found["name"],
        digest=found["digest"],
        scopes=scopes_in(found["scopes"].split()),
        users=_users_of(found),
        made_at=datetime.fromtimestamp(found["made_at"] / 1000, UTC),
        ends_at=instant(found.get("ends_at")),
        revoked_at=instant(found.get("revoked_at")),
        used_at=instant(found.get("used_at")),
    )


def _packed(users: frozenset[UserId]) -> bytes:
    return _encode(sorted(users))


def _users_of(found: Found) -> frozenset[UserId] | None:
    return frozenset(map(UserId, _decode(found["users"]))) if "users" in found else None
