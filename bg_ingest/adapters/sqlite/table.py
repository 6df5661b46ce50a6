"""``Table`` over SQLite: a file is accessed in a worker thread, an in-memory database in the event loop's thread."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import Protocol, TypeVar

from anyio import CapacityLimiter, Lock, lowlevel, to_thread

from bg_ingest.adapters.sqlite.file import ItemFile
from bg_ingest.ports.table import Item, Key, SingleWrite, Write

SCAN_BATCH_SIZE = 500

Result = TypeVar("Result")


class Run(Protocol):
    """Runner of calls to the file, one at a time. A started call is completed even if its caller is cancelled."""

    def __call__(self, call: Callable[[], Result], /) -> Awaitable[Result]: ...


def run_in_thread() -> Run:
    limiter = CapacityLimiter(1)

    async def run(call: Callable[[], Result]) -> Result:
        return await to_thread.run_sync(call, abandon_on_cancel=False, limiter=limiter)

    return run


async def run_inline(call: Callable[[], Result]) -> Result:
    """Run the call in the event loop's thread, which makes tests deterministic."""
    await lowlevel.checkpoint()
    return call()


class SqliteTable:
    def __init__(self, file: ItemFile, run: Run) -> None:
        self._file = file
        self._run = run
        self._long_calls = Lock(fast_acquire=True)
        """Held by one write or read of many rows at a time. A read of single rows waits for at most one of these."""

    async def get(self, key: Key) -> Item | None:
        return (await self.batch_get([key])).get(key)

    async def batch_get(self, keys: Collection[Key], *, consistent: bool = True) -> dict[Key, Item]:
        del consistent  # every read of SQLite is consistent
        return await self._run(partial(self._file.get, keys))

    async def batch_get_once(self, keys: Collection[Key]) -> dict[Key, Item | None]:
        items = await self.batch_get(keys)
        return {key: items.get(key) for key in keys}

    async def query(
        self, pk: str, low: str, high: str, *, consistent: bool = True, page: int = 100, descending: bool = False
    ) -> AsyncGenerator[list[tuple[Key, Item]]]:
        del consistent  # every read of SQLite is consistent
        after = False
        while items := await self._run_long(
            partial(self._file.page, pk, low, high, page, after=after, descending=descending)
        ):
            yield items
            if len(items) < page:
                return
            last, after = items[-1][0][1], True
            low, high = (low, last) if descending else (last, high)

    async def non_empty(self, pks: Collection[str], low: str, high: str) -> set[str]:
        return await self._run(partial(self._file.non_empty, pks, low, high))

    async def scan(self, part: int, parts: int, kinds: Collection[str] = ()) -> AsyncGenerator[list[tuple[Key, Item]]]:
        after, prefixes = ("", ""), tuple(kinds) or ("",)
        while items := await self._run_long(partial(self._file.scan, part, parts, after, SCAN_BATCH_SIZE)):
            after = items[-1][0]
            if matching := [(key, item) for key, item in items if key[1].startswith(prefixes)]:
                yield matching

    async def _run_long(self, call: Callable[[], Result]) -> Result:
        async with self._long_calls:
            return await self._run(call)

    async def write(self, one: SingleWrite) -> None:
        await self.transact([one])

    async def transact(self, writes: Sequence[Write]) -> None:
        await self._run_long(partial(self._file.transact, writes))

    async def delete(self, keys: Collection[Key]) -> None:
        await self._run(partial(self._file.delete, keys))
