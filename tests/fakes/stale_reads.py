"""A table whose inconsistent queries do not show the last transaction yet, as DynamoDB's may not."""

from collections.abc import AsyncGenerator
from typing import Any, cast

from bg_ingest.ports import Clock
from bg_ingest.ports.table import Check, Item, Key, Table
from bg_ingest.store import Store
from tests.fakes.faults import CallWrapper


class LaggingTable(CallWrapper):
    """``keep`` is what a desk's does, through this table."""

    def __init__(self, inner: Table) -> None:
        super().__init__(inner)
        self._before: dict[Key, Item | None] = {}

    def store(self, clock: Clock) -> Store:
        return Store(cast("Table", self), clock)  # it hands on whatever it does not change

    async def add_readings(self, api: Any, *readings: Any) -> None:
        plain, api.store = api.store, self.store(api.clock)
        try:
            await api.add_readings(*readings)
        finally:
            api.store = plain

    async def _around(self, name: str, call: Any) -> Any:
        return await call()

    async def transact(self, writes: Any) -> None:
        keys = [each.key for each in writes if not isinstance(each, Check)]
        self._before = {key: await self._inner.get(key) for key in keys}
        await self._inner.transact(writes)

    async def query(
        self, pk: str, low: str, high: str, *, consistent: bool = True, page: int = 100
    ) -> AsyncGenerator[list[tuple[Key, Item]]]:
        async for items in self._inner.query(pk, low, high, consistent=consistent, page=page):
            then = items if consistent else [(key, self._before.get(key, item)) for key, item in items]
            yield [(key, item) for key, item in then if item is not None]
