"""The port Webhooks over a table."""

from datetime import datetime

from bg_ingest.domain.connections import Connection
from bg_ingest.domain.segment_codec import to_epoch_seconds
from bg_ingest.ports.table import Put, Table
from bg_ingest.store import keys
from bg_ingest.store.items import StoredItem, build_item


class WebhookIdStore:
    """The ids of webhooks whose data is stored, each known to one connect of a connection."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def contains(self, connection: Connection, webhook_id: str, now: datetime) -> bool:
        item: StoredItem | None = await self._table.get(keys.webhook(connection, webhook_id))
        return item is not None and bool(item["expires_at"] > now.timestamp())

    async def add(self, connection: Connection, webhook_id: str, expires_at: datetime) -> None:
        """Remember one, after its data was committed."""
        await self._table.write(
            Put(keys.webhook(connection, webhook_id), build_item(expires_at=to_epoch_seconds(expires_at)))
        )
