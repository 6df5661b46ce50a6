"""Counts of table calls: tests check the costs that the documentation claims."""

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing

from bg_ingest.ports.table import Item, Key, SingleWrite, Table, Write


class CountingTable:
    """Table that counts reads (each batch and each page is one), writes and transactions."""

    def __init__(self, inner: Table) -> None:
        self._inner = inner
        self.reads = self.writes = self.transactions = self.queried_items = 0

    @property
    def asked(self) -> tuple[int, int, int]:
        """Reads, writes, transactions."""
        return self.reads, self.writes, self.transactions

    async def get(self, key: Key) -> Item | None:
        self.reads += 1
        return await self._inner.get(key)

    async def batch_get(self, keys: Collection[Key], *, consistent: bool = True) -> dict[Key, Item]:
        self.reads += 1
        return await self._inner.batch_get(keys, consistent=consistent)

    async def batch_get_once(self, keys: Collection[Key]) -> dict[Key, Item | None]:
        self.reads += 1
        return await self._inner.batch_get_once(keys)

    async def query(
        self,
        pk: str,
        low: str,
        high: str,
        *,
        consistent: bool = True,
        page: int = 100,
        descending: bool = False,
        attributes: Collection[str] = (),
    ) -> AsyncGenerator[list[tuple[Key, Item]]]:
        self.reads += 1
        first = True
        async with aclosing(
            self._inner.query(
                pk, low, high, consistent=consistent, page=page, descending=descending, attributes=attributes
            )
        ) as pages:
            async for items in pages:
                self.reads += not first
                first = False
                self.queried_items += len(items)
                yield items

    async def scan(self, part: int, parts: int, kinds: Collection[str] = ()) -> AsyncGenerator[list[tuple[Key, Item]]]:
        async with aclosing(self._inner.scan(part, parts, kinds)) as pages:
            async for items in pages:
                self.reads += 1
                yield items

    async def write(self, one: SingleWrite) -> None:
        self.writes += 1
        await self._inner.write(one)

    async def transact(self, writes: Sequence[Write]) -> None:
        self.transactions += 1
        await self._inner.transact(writes)

    async def delete(self, keys: Collection[Key]) -> None:
        self.writes += 1
        await self._inner.delete(keys)
