"""OAuth states, which are accepted once."""

from contextlib import suppress
from datetime import datetime
from typing import NamedTuple

from bg_ingest.domain.ids import UserId
from bg_ingest.domain.segment_codec import to_epoch_ms, to_epoch_seconds
from bg_ingest.ports.table import ConditionFailed, Delete, Exists, Item, Missing, Put, Update, Write
from bg_ingest.store import keys
from bg_ingest.store.items import ItemStore, build_item, optional_instant, read_range

MAX_STATES = 5
"""Largest number of states of a user. Each started connect adds one, and an erasure must delete them all."""

MAX_REMOVED = 40
"""Largest number of states that one transaction removes, two rows each. Usually it removes at most one, but concurrent
connects can exceed MAX_STATES."""


class StoredState(NamedTuple):
    user: UserId
    content: bytes
    used_at: datetime | None


class OAuthStateStore(ItemStore):
    """Random, short-lived states of connects; a second row lists each by user.

    A consumed state is kept until it expires.
    """

    async def add(self, user: UserId, state: str, content: bytes, expires_at: datetime) -> None:
        """Store the content of a state until it expires, the user is erased, or the user has MAX_STATES newer ones."""
        ends = to_epoch_seconds(expires_at)
        rows = await read_range(self._table, keys.user_pk(user), *keys.prefix_range(keys.STATES))
        by_age = sorted(rows, key=lambda row: int(row[1]["expires_at"]))
        oldest = [key[1].removeprefix(keys.STATES) for key, _ in by_age[: max(0, len(rows) - MAX_STATES + 1)]]
        by_state = Put(keys.state(state), build_item(content=content, user=user, expires_at=ends))
        by_user = Put(keys.state_of_user(user, state), build_item(expires_at=ends))
        deletes = [delete for old in oldest[:MAX_REMOVED] for delete in _deletes(user, old)]
        await self._table.transact([by_state, by_user, *deletes])

    async def read(self, state: str, now: datetime) -> StoredState | None:
        """Return a state, consumed or not; None if it is unknown or expired."""
        item = await self._table.get(keys.state(state))
        if item is None or item["expires_at"] <= now.timestamp():
            return None
        return StoredState(item["user"], bytes(item["content"]), optional_instant(item.get("used_at")))

    async def consume(self, state: str, now: datetime) -> bytes | None:
        """Return the content once; None if the state is unknown, used or expired."""
        stored = await self.read(state, now)
        if stored is None or stored.used_at is not None:
            return None
        used: Item = {"used_at": to_epoch_ms(now)}
        unused = (Exists(), Missing("used_at"))
        rows = keys.state(state), keys.state_of_user(stored.user, state)
        try:
            await self._table.transact([Update(key, used, (), unused) for key in rows])
        except ConditionFailed:  # another request consumed it since
            return None
        return stored.content

    async def release(self, user: UserId, state: str) -> None:
        """Make a consumed state usable again."""
        rows = keys.state(state), keys.state_of_user(user, state)
        with suppress(ConditionFailed):  # the user was erased since
            await self._table.transact([Update(key, {}, ("used_at",), (Exists(),)) for key in rows])

    async def remove(self, user: UserId, state: str) -> None:
        await self._table.transact(_deletes(user, state))


def _deletes(user: UserId, state: str) -> list[Write]:
    return [Delete(keys.state(state)), Delete(keys.state_of_user(user, state))]
