"""The store's calls, timed below everything that is built on a table."""

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from time import perf_counter

from bg_ingest.observability.registry import MetricsRegistry
from bg_ingest.ports.table import Item, Key, SingleWrite, Table, Write


class ObservedTable:
    """The protocol Table. A failed condition is an answer, not an error: its outcome is ``condition_failed``."""

    def __init__(self, table: Table, metrics: MetricsRegistry) -> None:
        self._table = table
        self._calls = metrics.store_calls

    async def get(self, key: Key) -> Item | None:
        with self._calls("get"):
            return await self._table.get(key)

    async def batch_get(self, keys: Collection[Key]) -> dict[Key, Item]:
        with self._calls("batch_get"):
            return await self._table.batch_get(keys)

    async def query(
        self, pk: str, low: str, high: str, *, consistent: bool = True, page: int = 100
    ) -> AsyncGenerator[list[tuple[Key, Item]]]:
        pages = self._table.query(pk, low, high, consistent=consistent, page=page)
        async with aclosing(self._observe_pages("query", pages)) as observed:
            async for items in observed:
                yield items

    async def non_empty(self, pks: Collection[str], low: str, high: str) -> set[str]:
        with self._calls("non_empty"):
            return await self._table.non_empty(pks, low, high)

    async def scan(self, part: int, parts: int, kinds: Collection[str] = ()) -> AsyncGenerator[list[tuple[Key, Item]]]:
        async with aclosing(self._observe_pages("scan", self._table.scan(part, parts, kinds))) as observed:
            async for items in observed:
                yield items

    async def _observe_pages(
        self, name: str, inner: AsyncGenerator[list[tuple[Key, Item]]]
    ) -> AsyncGenerator[list[tuple[Key, Item]]]:
        async with aclosing(inner) as pages:
            with self._calls(name):
                items = await anext(pages, None)
            while items is not None:
                yield items
                began = perf_counter()
                items = await anext(pages, None)
                if items is not None:  # else nobody may have been asked
                    self._calls.observe(perf_counter() - began, name, "ok")

    async def write(self, one: SingleWrite) -> None:
        with self._calls("write"):
            await self._table.write(one)

    async def transact(self, writes: Sequence[Write]) -> None:
        with self._calls("transact"):
            await self._table.transact(writes)

    async def delete(self, keys: Collection[Key]) -> None:
        with self._calls("delete"):
            await self._table.delete(keys)
