"""Values that are accepted once: OAuth states, and the ids of received webhooks, which detect repeated deliveries."""

from datetime import datetime

from bg_ingest.domain.connections import Connection
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.segment_codec import to_epoch_seconds
from bg_ingest.ports.table import ConditionFailed, Delete, Exists, Put
from bg_ingest.store import keys
from bg_ingest.store.items import ItemStore, build_item


class OAuthStateStore(ItemStore):
    """Random, short-lived states of unfinished connects, also listed below their user."""

    async def add(self, user: UserId, state: str, content: bytes, expires_at: datetime) -> None:
        """Store the content of a state until it is consumed, expires, or the user is erased."""
        ends = to_epoch_seconds(expires_at)
        by_state = Put(keys.state(state), build_item(content=content, user=user, expires_at=ends))
        await self._table.transact([by_state, Put(keys.state_of_user(user, state), build_item(expires_at=ends))])

    async def consume(self, state: str, now: datetime) -> bytes | None:
        """Return the content once; None if the state is unknown, used or expired."""
        key = keys.state(state)
        item = await self._table.get(key)
        if item is None or item["expires_at"] <= now.timestamp():
            return None
        try:
            await self._table.transact([Delete(key, (Exists(),)), Delete(keys.state_of_user(item["user"], state))])
        except ConditionFailed:  # another request consumed it since
            return None
        return bytes(item["content"])


class WebhookIdStore(ItemStore):
    """Ids of webhooks whose data is committed; each belongs to one connect of a connection."""

    async def contains(self, connection: Connection, webhook_id: str, now: datetime) -> bool:
        item = await self._table.get(keys.webhook(connection, webhook_id))
        return item is not None and bool(item["expires_at"] > now.timestamp())

    async def add(self, connection: Connection, webhook_id: str, expires_at: datetime) -> None:
        """Add an id, after the commit of its data. A crash in between then repeats data and loses none."""
        item = build_item(expires_at=to_epoch_seconds(expires_at))
        await self._table.write(Put(keys.webhook(connection, webhook_id), item))
