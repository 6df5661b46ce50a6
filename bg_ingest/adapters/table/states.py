"""The port States over a table."""

from datetime import datetime

from bg_ingest.adapters.table import keys
from bg_ingest.adapters.table.protocol import ConditionFailed, Delete, Exists, Put, Table
from bg_ingest.adapters.table.records import Found, item
from bg_ingest.domain.columns import seconds
from bg_ingest.domain.ids import UserId


class TableStates:
    def __init__(self, table: Table) -> None:
        self._table = table

    async def put(self, user: UserId, state: str, content: bytes, expires_at: datetime) -> None:
        ends = seconds(expires_at)
        known = Put(keys.state(state), item(content=content, user=user, expires_at=ends))
        await self._table.transact([known, Put(keys.begun(user, state), item(expires_at=ends))])

    async def take(self, state: str, now: datetime) -> bytes | None:
        key = keys.state(state)
        found: Found | None = await self._table.get(key)
        if found is None or found["expires_at"] <= now.timestamp():
            return None
        try:
            await self._table.transact([Delete(key, (Exists(),)), Delete(keys.begun(found["user"], state))])
        except ConditionFailed:  # somebody took it since
            return None
        content: bytes = found["content"]
        return content
