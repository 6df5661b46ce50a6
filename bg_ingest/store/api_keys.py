"""API keys: one partition, which is read as a whole."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from bg_ingest.domain.access import ApiKey, known_scopes
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.segment_codec import to_epoch_ms
from bg_ingest.ports.table import Absent, Equals, Item, Key, Put, StoredItem
from bg_ingest.store import items, keys


class ApiKeyStore(items.ItemStore):
    """API keys. A process holds all of them in memory, because there are at most some hundreds."""

    async def read_all(self) -> Sequence[ApiKey]:
        """Return all keys, including expired and revoked ones."""
        return [_decode_key(key[1], item) for key, item in await self._rows()]

    async def add(self, key: ApiKey) -> None:
        """Write a new key; StaleRead if its id exists."""
        await items.write_if_current(self._table, Put(keys.api_key(key.id), _encode_key(key), (Absent(),)))

    async def revoke(self, key_id: str, at: datetime) -> bool:
        """Revoke a key permanently; return False if it does not exist. A repetition changes only `revoked_at`.

        The only condition is that the key exists, so that no concurrent change keeps it from being revoked.
        """
        return await self._update(key_id, {"revoked_at": to_epoch_ms(at)})

    async def set_last_used(self, key_id: str, at: datetime) -> None:
        """Write the time of the last use if the key exists."""
        await self._update(key_id, {"used_at": to_epoch_ms(at)})

    async def remove_user(self, user: UserId) -> int:
        """Remove a user from the lists of all keys; return the number of changed keys, 0 if repeated.

        A key with an empty list gives access to no user. StaleRead: another erasure changed a list; repeat.
        """
        listed = [(key, item, _decode_users(item)) for key, item in await self._rows()]
        affected = [(key, item, users - {user}) for key, item, users in listed if users and user in users]
        for key, item, others in affected:
            # If a list differs from the one read, another erasure has shortened it: it must be read again.
            same = Equals("users", item["users"])
            await items.write_if_current(
                self._table, items.update_existing(key, {"users": _encode_users(others)}, [same])
            )
        return len(affected)

    async def _rows(self) -> Sequence[tuple[Key, StoredItem]]:
        return await items.read_range(self._table, keys.API_KEYS, *keys.KEY_ID_RANGE)

    async def _update(self, key_id: str, changed: Item) -> bool:
        return await items.try_write(self._table, items.update_existing(keys.api_key(key_id), changed))


def _encode_key(key: ApiKey) -> Item:
    return items.build_item(
        name=key.name,
        digest=key.digest,
        scopes=" ".join(sorted(key.scopes)),
        users=None if key.users is None else _encode_users(key.users),
        made_at=to_epoch_ms(key.made_at),
        ends_at=items.optional_epoch_ms(key.ends_at),
        revoked_at=items.optional_epoch_ms(key.revoked_at),
        used_at=items.optional_epoch_ms(key.used_at),
    )


def _decode_key(key_id: str, item: StoredItem) -> ApiKey:
    return ApiKey(
        id=key_id,
        name=item["name"],
        digest=item["digest"],
        scopes=known_scopes(item["scopes"].split()),
        users=_decode_users(item),
        made_at=items.from_epoch_ms(item["made_at"]),
        ends_at=items.optional_instant(item.get("ends_at")),
        revoked_at=items.optional_instant(item.get("revoked_at")),
        used_at=items.optional_instant(item.get("used_at")),
    )


def _encode_users(users: frozenset[UserId]) -> bytes:
    return msgspec.msgpack.encode(sorted(users))


def _decode_users(item: StoredItem) -> frozenset[UserId] | None:
    return frozenset(map(UserId, msgspec.msgpack.decode(item["users"]))) if "users" in item else None
