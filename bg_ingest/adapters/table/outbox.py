"""The port Outbox over a table."""

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing

from bg_ingest.adapters.table import keys
from bg_ingest.adapters.table.protocol import Delete, Key, Put, Table
from bg_ingest.adapters.table.records import change_of, item
from bg_ingest.domain.events import Change
from bg_ingest.ports import Pending

OUTBOX_PAGE = 100

FIRST, LAST = "0", "~"
"""Around every user id, and every sort key of a user: they start with a letter or a digit."""


class TableOutbox:
    def __init__(self, table: Table) -> None:
        self._table = table

    async def waiting(self, shards: Collection[int]) -> set[int]:
        partitions = {keys.outbox_pk(shard): shard for shard in shards}
        return {partitions[pk] for pk in await self._table.inhabited(partitions, FIRST, LAST)}

    async def pending(self, shard: int) -> AsyncGenerator[Sequence[Pending]]:
        async with aclosing(self._table.query(keys.outbox_pk(shard), FIRST, LAST, page=OUTBOX_PAGE)) as pages:
            async for page in pages:
                yield [Pending(shard, *keys.parse_outbox(key)) for key, _ in page]

    async def changes(self, pending: Collection[Pending]) -> dict[Pending, Change]:
        wanted = {keys.change(each.user, each.number): each for each in pending}
        found = await self._table.batch_get(list(wanted))
        return {(each := wanted[key]): change_of(each.user, each.number, item) for key, item in found.items()}

    async def waits(self, pending: Pending) -> bool:
        return await self._table.get(_key(pending)) is not None

    async def settle(self, pending: Collection[Pending]) -> None:
        await self._table.delete(list(map(_key, pending)))

    async def put_back(self, pending: Collection[Pending]) -> None:
        for each in pending:
            await self._table.write(Put(_key(each), item()))

    async def close(self, pending: Pending) -> None:
        await self._table.transact([Delete(_key(pending)), Delete(keys.change(pending.user, pending.number))])


def _key(pending: Pending) -> Key:
    return keys.outbox(pending.shard, pending.user, pending.number)
