"""Table with inconsistent reads that miss the last transaction, as those of DynamoDB may do."""

from collections.abc import AsyncGenerator, Collection
from typing import Any, cast

from bg_ingest.ports import Clock
from bg_ingest.ports.table import Check, Item, Key, Table
from bg_ingest.store import Store
from tests.fakes.faults import CallWrapper


class LaggingTable(CallWrapper):
    """Shows consistent reads as they are, and queries and batches that may lag as before the last transaction."""

    def __init__(self, inner: Table) -> None:
        super().__init__(inner)
        self._before: dict[Key, Item | None] = {}

    def store(self, clock: Clock) -> Store:
        return Store(cast("Table", self), clock)  # other calls are passed on unchanged

    async def add_readings(self, api: Any, *readings: Any) -> None:
        plain, api.store = api.store, self.store(api.clock)
        try:
            await api.add_readings(*readings)
        finally:
            api.store = plain

    async def _around(self, name: str, call: Any) -> Any:
        return await call()

    async def transact(self, writes: Any) -> None:
        await self.hold(*(write.key for write in writes if not isinstance(write, Check)))
        await self._inner.transact(writes)

    async def hold(self, *keys: Key) -> None:
        """Show these items as they are now to reads that may lag, also after writes of others."""
        self._before = {key: await self._inner.get(key) for key in keys}

    def release(self) -> None:
        """End the lag."""
        self._before = {}

    async def batch_get(self, keys: Collection[Key], *, consistent: bool = True) -> dict[Key, Item]:
        found: dict[Key, Item] = await self._inner.batch_get(keys, consistent=consistent)
        lagging = {} if consistent else {key: self._before[key] for key in keys if key in self._before}
        return {key: item for key, item in (found | lagging).items() if item is not None}

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
        async for items in self._inner.query(
            pk, low, high, consistent=consistent, page=page, descending=descending, attributes=attributes
        ):
            shown = items if consistent else [(key, self._before.get(key, item)) for key, item in items]
            yield [(key, item) for key, item in shown if item is not None]
