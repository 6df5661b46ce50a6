"""The port Outbox over a table."""

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing

from bg_ingest.domain.changes import Change
from bg_ingest.ports import OutboxEntry
from bg_ingest.ports.table import Delete, Key, Put, Table
from bg_ingest.store import keys
from bg_ingest.store.items import build_item, decode_change

OUTBOX_BATCH_SIZE = 100

FIRST_SORT_KEY, LAST_SORT_KEY = "0", "~"
"""Around every user id, and every sort key of a user: they start with a letter or a digit."""


class OutboxStore:
    def __init__(self, table: Table) -> None:
        self._table = table

    async def non_empty_shards(self, shards: Collection[int]) -> set[int]:
        partitions = {keys.outbox_pk(shard): shard for shard in shards}
        return {partitions[pk] for pk in await self._table.non_empty(partitions, FIRST_SORT_KEY, LAST_SORT_KEY)}

    async def iter_entries(self, shard: int) -> AsyncGenerator[Sequence[OutboxEntry]]:
        async with aclosing(
            self._table.query(keys.outbox_pk(shard), FIRST_SORT_KEY, LAST_SORT_KEY, page=OUTBOX_BATCH_SIZE)
        ) as pages:
            async for page in pages:
                yield [OutboxEntry(shard, *keys.parse_outbox(key)) for key, _ in page]

    async def changes(self, pending: Collection[OutboxEntry]) -> dict[OutboxEntry, Change]:
        by_key = {keys.change(each.user, each.number): each for each in pending}
        found = await self._table.batch_get(list(by_key))
        return {(each := by_key[key]): decode_change(each.user, each.number, item) for key, item in found.items()}

    async def exists(self, pending: OutboxEntry) -> bool:
        return await self._table.get(_key(pending)) is not None

    async def settle(self, pending: Collection[OutboxEntry]) -> None:
        await self._table.delete(list(map(_key, pending)))

    async def restore(self, pending: Collection[OutboxEntry]) -> None:
        for each in pending:
            await self._table.write(Put(_key(each), build_item()))

    async def settle_last(self, pending: OutboxEntry) -> None:
        await self._table.transact([Delete(_key(pending)), Delete(keys.change(pending.user, pending.number))])


def _key(pending: OutboxEntry) -> Key:
    return keys.outbox(pending.shard, pending.user, pending.number)
