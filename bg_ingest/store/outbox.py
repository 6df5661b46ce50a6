"""What waits to be told, by shard: a row for each change."""

from collections.abc import AsyncGenerator, Collection, Iterable, Iterator, Sequence
from contextlib import aclosing

import msgspec

from bg_ingest.domain.changes import Change
from bg_ingest.domain.commits import Commit
from bg_ingest.domain.ids import UserId, shard_of
from bg_ingest.errors import StaleRead
from bg_ingest.ports.table import Delete, Key, Put, Table
from bg_ingest.store import keys
from bg_ingest.store.changes import decode_change
from bg_ingest.store.conditional import ConditionalWrite
from bg_ingest.store.items import build_item

OUTBOX_BATCH_SIZE = 100


class OutboxEntry(msgspec.Struct, frozen=True, order=True):
    """An outbox row: this change waits to be told."""

    shard: int
    user: UserId
    number: int


class OutboxStore:
    """What waits to be told, by shard."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def non_empty_shards(self, shards: Collection[int]) -> set[int]:
        """Return those of these shards in which anything waits."""
        partitions = {keys.outbox_pk(shard): shard for shard in shards}
        non_empty = await self._table.non_empty(partitions, keys.FIRST_SORT_KEY, keys.LAST_SORT_KEY)
        return {partitions[pk] for pk in non_empty}

    async def iter_entries(self, shard: int) -> AsyncGenerator[Sequence[OutboxEntry]]:
        """Yield all that waits, in pages, per user by ascending number."""
        query = self._table.query(
            keys.outbox_pk(shard), keys.FIRST_SORT_KEY, keys.LAST_SORT_KEY, page=OUTBOX_BATCH_SIZE
        )
        async with aclosing(query) as pages:
            async for page in pages:
                yield [OutboxEntry(shard, *keys.parse_outbox(key)) for key, _ in page]

    async def changes(self, pending: Collection[OutboxEntry]) -> dict[OutboxEntry, Change]:
        """Return what is to be told; a change that expired untold is absent."""
        by_key = {keys.change(entry.user, entry.number): entry for entry in pending}
        items = await self._table.batch_get(list(by_key))
        return {(entry := by_key[key]): decode_change(entry.user, entry.number, item) for key, item in items.items()}

    async def exists(self, pending: OutboxEntry) -> bool:
        """Tell whether a row is still there: an erasure takes a user's rows away before their changes."""
        return await self._table.get(_key(pending)) is not None

    async def settle(self, pending: Collection[OutboxEntry]) -> None:
        """Forget rows whose events were confirmed."""
        await self._table.delete(list(map(_key, pending)))

    async def settle_last(self, pending: OutboxEntry) -> None:
        """Forget a row and its change: the last of an erased user."""
        await self._table.transact([Delete(_key(pending)), Delete(keys.change(pending.user, pending.number))])

    async def restore(self, changes: Iterable[Change]) -> None:
        """Have these told again, whether they wait already or not."""
        for change in changes:
            await self._table.write(entry_write(change))


def writes(commit: Commit) -> Iterator[ConditionalWrite]:
    return (ConditionalWrite(entry_write(change), StaleRead) for change in commit.changes)


def entry_write(change: Change) -> Put:
    return Put(keys.outbox(shard_of(change.user), change.user, change.number), build_item())


def _key(pending: OutboxEntry) -> Key:
    return keys.outbox(pending.shard, pending.user, pending.number)
