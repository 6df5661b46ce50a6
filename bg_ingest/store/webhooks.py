"""Webhooks: one read of all items that a webhook needs, and the ids of received webhooks, to detect repetitions."""

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime

import msgspec

from bg_ingest.domain.commits import Commit, ReceivedWebhook, StoredWebhookId
from bg_ingest.domain.connections import Connection
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.segment_codec import to_epoch_seconds
from bg_ingest.errors import Fenced
from bg_ingest.ports.table import Absent, Conditions, Equals, Item, Put, StoredItem, Table
from bg_ingest.store import keys
from bg_ingest.store.connections import ConnectionStore, row_keys
from bg_ingest.store.items import VERSION_OK, ConditionalWrite, build_item
from bg_ingest.store.segments import SeriesRead, decode_series


class WebhookRead(msgspec.Struct, frozen=True):
    connections: Mapping[str, Connection]
    """By provider."""
    ids: Mapping[str, StoredWebhookId]
    """By provider. An id may belong to an earlier connect, or be expired and not deleted yet."""
    series: SeriesRead


class WebhookStore:
    """Ids of webhooks whose data is committed; each belongs to one connect of a connection."""

    def __init__(self, table: Table, connections: ConnectionStore) -> None:
        self._table = table
        self._connections = connections

    async def read(
        self, user: UserId, providers: Collection[str], webhook_id: str, segments: Collection[datetime]
    ) -> WebhookRead:
        """Read the connections, the stored ids, the head and the segments at once; the items are no snapshot."""
        connections = [ConnectionId(user, name) for name in providers]
        ids = {keys.webhook(ConnectionId(user, name), webhook_id): name for name in providers}
        starts = {keys.segment(user, start): start for start in segments}
        items = await self._table.batch_get([*row_keys(connections), *ids, *starts])
        return WebhookRead(
            {
                identity.provider: connection
                for identity in connections
                if (connection := self._connections.decode_unexpired(identity, items))
            },
            {name: _decode_id(items[key]) for key, name in ids.items() if key in items},
            decode_series(user, starts, items),
        )

    async def add(self, webhook: ReceivedWebhook) -> None:
        """Add the id of a webhook without a commit."""
        await self._table.write(Put(_key(webhook), _encode_id(webhook.stored)))


def commit_writes(commit: Commit) -> Iterator[ConditionalWrite]:
    """Yield the write of the webhook's id. The write fails if the stored id has changed since it was read."""
    if commit.webhook is not None:
        write = Put(_key(commit.webhook), _encode_id(commit.webhook.stored), _unchanged(commit.webhook.replaces))
        yield ConditionalWrite(write, Fenced)


def _key(webhook: ReceivedWebhook) -> tuple[str, str]:
    return keys.webhook(webhook.connection, webhook.webhook_id)


def _unchanged(stored: StoredWebhookId | None) -> Conditions:
    if stored is None:
        return (Absent(),)
    item = _encode_id(stored)
    return (*(Equals(name, item[name]) for name in ("generation", "expires_at")), VERSION_OK)


def _encode_id(stored: StoredWebhookId) -> Item:
    return build_item(generation=stored.generation, expires_at=to_epoch_seconds(stored.expires_at))


def _decode_id(item: StoredItem) -> StoredWebhookId:
    return StoredWebhookId(item["generation"], datetime.fromtimestamp(item["expires_at"], UTC))
