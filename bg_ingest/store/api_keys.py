"""The port Keys over a table: all keys lie together, and are read as a whole."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from bg_ingest.domain.access import ApiKey, known_scopes
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.segment_codec import to_epoch_ms
from bg_ingest.ports.table import Absent, Equals, Exists, Item, Key, Put, Table, Update
from bg_ingest.store import keys
from bg_ingest.store.conditional import try_write, write_if_current
from bg_ingest.store.items import (
    VERSION_OK,
    StoredItem,
    build_item,
    from_epoch_ms,
    optional_epoch_ms,
    optional_instant,
    read_range,
)

_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.decode


class ApiKeyStore:
    """API keys; some hundreds, so that a process can know all of them."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def read_all(self) -> Sequence[ApiKey]:
        """Return every key, also those that no longer let in."""
        return [_decode_key(key[1], item) for key, item in await self._rows()]

    async def add(self, key: ApiKey) -> None:
        """Keep a new key; StaleRead when its id is taken."""
        await write_if_current(self._table, Put(keys.api_key(key.id), _encode_key(key), (Absent(),)))

    async def revoke(self, key_id: str, at: datetime) -> bool:
        """Let it never in again; False when there is no such key. A second time changes nothing.

        Hold on to nothing but that there is one: whatever else changes, it stays revoked.
        """
        return await self._update(key_id, build_item(revoked_at=to_epoch_ms(at)))

    async def set_last_used(self, key_id: str, at: datetime) -> None:
        """Write when it was last used, if it is still there."""
        await self._update(key_id, build_item(used_at=to_epoch_ms(at)))

    async def remove_user(self, user: UserId) -> int:
        """Take a user off the lists of all keys, and return on how many they were; done again, it finds none.

        A key whose list gets empty lets in for nobody.
        """
        listed = [(key, item, _decode_users(item)) for key, item in await self._rows()]
        naming = [(key, item, users - {user}) for key, item, users in listed if users and user in users]
        for key, item, others in naming:
            # Lists only ever get shorter: a write in between was another erasure's, and is to be seen first.
            same = Equals("users", item["users"])
            shorter = Update(key, {"users": _encode_users(others)}, (), (Exists(), VERSION_OK, same))
            await write_if_current(self._table, shorter)
        return len(naming)

    async def _rows(self) -> Sequence[tuple[Key, StoredItem]]:
        return await read_range(self._table, keys.API_KEYS, *keys.KEY_ID_RANGE)

    async def _update(self, key_id: str, changed: Item) -> bool:
        return await try_write(self._table, Update(keys.api_key(key_id), changed, (), (Exists(), VERSION_OK)))


def _encode_key(key: ApiKey) -> Item:
    return build_item(
        name=key.name,
        digest=key.digest,
        scopes=" ".join(sorted(key.scopes)),
        users=None if key.users is None else _encode_users(key.users),
        made_at=to_epoch_ms(key.made_at),
        ends_at=optional_epoch_ms(key.ends_at),
        revoked_at=optional_epoch_ms(key.revoked_at),
        used_at=optional_epoch_ms(key.used_at),
    )


def _decode_key(key_id: str, item: StoredItem) -> ApiKey:
    return ApiKey(
        id=key_id,
        name=item["name"],
        digest=item["digest"],
        scopes=known_scopes(item["scopes"].split()),
        users=_decode_users(item),
        made_at=from_epoch_ms(item["made_at"]),
        ends_at=optional_instant(item.get("ends_at")),
        revoked_at=optional_instant(item.get("revoked_at")),
        used_at=optional_instant(item.get("used_at")),
    )


def _encode_users(users: frozenset[UserId]) -> bytes:
    return _encode(sorted(users))


def _decode_users(item: StoredItem) -> frozenset[UserId] | None:
    return frozenset(map(UserId, _decode(item["users"]))) if "users" in item else None
