"""OAuth states of unfinished connects, also listed below their user."""

from datetime import datetime

from bg_ingest.domain.ids import UserId
from bg_ingest.domain.segment_codec import to_epoch_seconds
from bg_ingest.ports.table import ConditionFailed, Delete, Exists, Put, Table
from bg_ingest.store import keys
from bg_ingest.store.items import StoredItem, build_item


class OAuthStateStore:
    """Random, single-use, short-lived states."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def add(self, user: UserId, state: str, content: bytes, expires_at: datetime) -> None:
        """Store the content of a state until it is consumed, expires, or the user is erased."""
        ends = to_epoch_seconds(expires_at)
        by_state = Put(keys.state(state), build_item(content=content, user=user, expires_at=ends))
        await self._table.transact([by_state, Put(keys.state_of_user(user, state), build_item(expires_at=ends))])

    async def consume(self, state: str, now: datetime) -> bytes | None:
        """Return the content once; None if the state is unknown, used or expired."""
        key = keys.state(state)
        item: StoredItem | None = await self._table.get(key)
        if item is None or item["expires_at"] <= now.timestamp():
            return None
        try:
            await self._table.transact([Delete(key, (Exists(),)), Delete(keys.state_of_user(item["user"], state))])
        except ConditionFailed:  # another request consumed it since
            return None
        content: bytes = item["content"]
        return content
