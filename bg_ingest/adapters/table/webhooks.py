"""The port Webhooks over a table."""

from datetime import datetime

from bg_ingest.adapters.table import keys
from bg_ingest.adapters.table.protocol import Put, Table
from bg_ingest.adapters.table.records import Found, item
from bg_ingest.domain.columns import seconds
from bg_ingest.domain.connections import Connection


class TableWebhooks:
    def __init__(self, table: Table) -> None:
        self._table = table

    async def seen(self, connection: Connection, webhook_id: str, now: datetime) -> bool:
        found: Found | None = await self._table.get(keys.webhook(connection, webhook_id))
        return found is not None and bool(found["expires_at"] > now.timestamp())

    async def note(self, connection: Connection, webhook_id: str, expires_at: datetime) -> None:
        await self._table.write(Put(keys.webhook(connection, webhook_id), item(expires_at=seconds(expires_at))))
