"""Ids of received webhooks, which detect deliveries that are repeated."""

from datetime import datetime

from bg_ingest.domain.connections import Connection
from bg_ingest.domain.segment_codec import to_epoch_seconds
from bg_ingest.ports.table import Put, Table
from bg_ingest.store import keys
from bg_ingest.store.items import StoredItem, build_item


class WebhookIdStore:
    """Ids of webhooks whose data is committed; each belongs to one connect of a connection."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def contains(self, connection: Connection, webhook_id: str, now: datetime) -> bool:
        item: StoredItem | None = await self._table.get(keys.webhook(connection, webhook_id))
        return item is not None and bool(item["expires_at"] > now.timestamp())

    async def add(self, connection: Connection, webhook_id: str, expires_at: datetime) -> None:
        """Add an id. To be called after the commit of its data: a crash in between repeats data and loses none."""
        await self._table.write(
            Put(keys.webhook(connection, webhook_id), build_item(expires_at=to_epoch_seconds(expires_at)))
        )
