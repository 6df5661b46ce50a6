"""The embedded store: one SQLite file, one process, nothing to install."""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path

from anyio import move_on_after

from bg_ingest.adapters.sqlite.file import ItemFile
from bg_ingest.adapters.sqlite.lock import only_process
from bg_ingest.adapters.sqlite.table import SqliteTable, in_place, own_thread
from bg_ingest.adapters.table.store import TableStore, agree, forget_owners
from bg_ingest.errors import StoreError
from bg_ingest.ports import Clock

CLOSE_WITHIN = 5
"""Seconds to wait for calls that are still under way; a file left open loses nothing."""


@asynccontextmanager
async def open_store(path: Path | None, clock: Clock) -> AsyncIterator[TableStore]:
    """Open the store in a file, or in memory without one; StoreError says in one sentence why it cannot be used."""
    async with open_table(path, clock) as table:
        yield TableStore(table, clock)


@asynccontextmanager
async def open_table(path: Path | None, clock: Clock) -> AsyncIterator[SqliteTable]:
    """Open only the table below a store, agreed on its layout."""

    def now() -> float:
        return clock.now().timestamp()

    run = own_thread() if path else in_place
    opened = _file(path, now) if path else closing(ItemFile(":memory:", now))
    table = SqliteTable(await run(opened.__enter__), run)
    try:
        await agree(table)
        await forget_owners(table)
        yield table
    finally:
        with move_on_after(CLOSE_WITHIN, shield=True):
            await run(partial(opened.__exit__, None, None, None))


@contextmanager
def _file(path: Path, now: Callable[[], float]) -> Iterator[ItemFile]:
    """Open the file for this process alone and for its user alone: it holds health data."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with only_process(path):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            with closing(ItemFile(str(path), now)) as file:
                yield file
    except OSError as problem:
        raise StoreError(f"{path} cannot be opened: {problem.strerror}.") from problem
