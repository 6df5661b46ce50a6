"""``Table`` over SQLite: a file is accessed in worker threads, an in-memory database in the event loop's thread."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

from anyio import CapacityLimiter, lowlevel, to_thread

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


class FileAccess(NamedTuple):
    """Connection to the file, and the runner of its calls."""

    file: ItemFile
    run: Run


class SqliteTable:
    def __init__(self, single_reads: FileAccess, page_reads: FileAccess, writes: FileAccess) -> None:
        self._single_reads, self._page_reads, self._writes = single_reads, page_reads, writes

    async def get(self, key: Key) -> Item | None:
        return (await self.batch_get([key])).get(key)

    async def batch_get(self, keys: Collection[Key], *, consistent: bool = True) -> dict[Key, Item]:
        del consistent  # every read of SQLite is consistent
        return await self._single_reads.run(partial(self._single_reads.file.get, keys))

    async def batch_get_once(self, keys: Collection[Key]) -> dict[Key, Item | None]:
        items = await self.batch_get(keys)
        return {key: items.get(key) for key in keys}

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
        del consistent, attributes  # every read of SQLite is consistent, and of whole items
        after = False
        while items := await self._page_reads.run(
            partial(self._page_reads.file.page, pk, low, high, page, after=after, descending=descending)
        ):
            yield items
            if len(items) < page:
                return
            last, after = items[-1][0][1], True
            low, high = (low, last) if descending else (last, high)

    async def scan(self, part: int, parts: int, kinds: Collection[str] = ()) -> AsyncGenerator[list[tuple[Key, Item]]]:
        after, prefixes = ("", ""), tuple(kinds) or ("",)
        while items := await self._page_reads.run(
            partial(self._page_reads.file.scan, part, parts, after, SCAN_BATCH_SIZE)
        ):
            after = items[-1][0]
            if matching := [(key, item) for key, item in items if key[1].startswith(prefixes)]:
                yield matching

    async def write(self, one: SingleWrite) -> None:
        await self.transact([one])

    async def transact(self, writes: Sequence[Write]) -> None:
        await self._writes.run(partial(self._writes.file.transact, writes))

    async def delete(self, keys: Collection[Key]) -> None:
        await self._writes.run(partial(self._writes.file.delete, keys))
