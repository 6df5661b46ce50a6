"""Table whose calls are observed."""

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing

from bg_ingest.ports import Observer
from bg_ingest.ports.table import Item, Key, SingleWrite, Table, Write


class ObservedTable:
    """Table that reports each call of another table. A failed condition has its own outcome, `condition_failed`."""

    def __init__(self, table: Table, observer: Observer) -> None:
        self._table = table
        self._call = observer.store_call

    async def get(self, key: Key) -> Item | None:
        with self._call("get"):
            return await self._table.get(key)

    async def batch_get(self, keys: Collection[Key], *, consistent: bool = True) -> dict[Key, Item]:
        with self._call("batch_get"):
            return await self._table.batch_get(keys, consistent=consistent)

    async def batch_get_once(self, keys: Collection[Key]) -> dict[Key, Item | None]:
        with self._call("batch_get"):
            return await self._table.batch_get_once(keys)

    def query(
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
        pages = self._table.query(
            pk, low, high, consistent=consistent, page=page, descending=descending, attributes=attributes
        )
        return self._observe_pages("query", pages)

    def scan(self, part: int, parts: int, kinds: Collection[str] = ()) -> AsyncGenerator[list[tuple[Key, Item]]]:
        return self._observe_pages("scan", self._table.scan(part, parts, kinds))

    async def _observe_pages(
        self, name: str, inner: AsyncGenerator[list[tuple[Key, Item]]]
    ) -> AsyncGenerator[list[tuple[Key, Item]]]:
        async with aclosing(inner) as pages:
            with self._call(name):
                items = await anext(pages, None)
            while items is not None:
                yield items
                call = self._call(name).__enter__()
                try:
                    items = await anext(pages, None)
                except BaseException as error:
                    call.__exit__(type(error), error, error.__traceback__)
                    raise
                if items is not None:  # the end of the pages is not counted as a call, because it may need no request
                    call.__exit__(None, None, None)

    async def write(self, one: SingleWrite) -> None:
        with self._call("write"):
            await self._table.write(one)

    async def transact(self, writes: Sequence[Write]) -> None:
        with self._call("transact"):
            await self._table.transact(writes)

    async def delete(self, keys: Collection[Key]) -> None:
        with self._call("delete"):
            await self._table.delete(keys)
