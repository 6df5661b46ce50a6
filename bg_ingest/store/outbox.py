"""Outbox: one row per unpublished change, by shard. The row is a key only and never expires; commits write it."""

from collections.abc import AsyncGenerator, Collection, Iterable, Sequence
from contextlib import aclosing

import msgspec

from bg_ingest.domain.changes import Change
from bg_ingest.domain.ids import UserId, shard_of
from bg_ingest.ports.table import Delete, Key, Put, Table
from bg_ingest.store import keys
from bg_ingest.store.changes import decode_change
from bg_ingest.store.items import build_item

OUTBOX_BATCH_SIZE = 100


class OutboxEntry(msgspec.Struct, frozen=True, order=True):
    """Outbox row of an unpublished change."""

    shard: int
    user: UserId
    number: int


class OutboxStore:
    """Unpublished changes by shard."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def non_empty_shards(self, shards: Collection[int]) -> set[int]:
        """Return the shards with unpublished changes."""
        partitions = {keys.outbox_pk(shard): shard for shard in shards}
        non_empty = await self._table.non_empty(partitions, keys.FIRST_SORT_KEY, keys.LAST_SORT_KEY)
        return {partitions[pk] for pk in non_empty}

    async def iter_entries(self, shard: int) -> AsyncGenerator[Sequence[OutboxEntry]]:
        """Yield pages of all entries of a shard; the numbers of each user ascend."""
        query = self._table.query(
            keys.outbox_pk(shard), keys.FIRST_SORT_KEY, keys.LAST_SORT_KEY, page=OUTBOX_BATCH_SIZE
        )
        async with aclosing(query) as pages:
            async for page in pages:
                yield [OutboxEntry(shard, *keys.parse_outbox(key)) for key, _ in page]

    async def changes(self, pending: Collection[OutboxEntry]) -> dict[OutboxEntry, Change]:
        """Return the changes of entries; expired ones are absent."""
        by_key = {keys.change(entry.user, entry.number): entry for entry in pending}
        items = await self._table.batch_get(list(by_key))
        return {(entry := by_key[key]): decode_change(entry.user, entry.number, item) for key, item in items.items()}

    async def exists(self, pending: OutboxEntry) -> bool:
        """Return whether a row still exists. An erasure deletes a user's rows before their changes."""
        return await self._table.get(_key(pending)) is not None

    async def settle(self, pending: Collection[OutboxEntry]) -> None:
        """Delete the rows of confirmed events."""
        await self._table.delete(list(map(_key, pending)))

    async def settle_last(self, pending: OutboxEntry) -> None:
        """Delete a row and its change, the last one of an erased user."""
        await self._table.transact([Delete(_key(pending)), Delete(keys.change(pending.user, pending.number))])

    async def restore(self, changes: Iterable[Change]) -> None:
        """Write the rows of changes that are to be published again; existing rows stay."""
        for change in changes:
            await self._table.write(Put(keys.outbox(shard_of(change.user), change.user, change.number), build_item()))


def _key(pending: OutboxEntry) -> Key:
    return keys.outbox(pending.shard, pending.user, pending.number)
