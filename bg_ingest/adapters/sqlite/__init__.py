"""The embedded store: one SQLite file, one process, nothing to install."""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path

from anyio import move_on_after

from bg_ingest.adapters.sqlite.file import ItemFile
from bg_ingest.adapters.sqlite.lock import lock_file
from bg_ingest.adapters.sqlite.table import SqliteTable, run_in_thread, run_inline
from bg_ingest.errors import StoreError
from bg_ingest.ports import Clock

CLOSE_TIMEOUT = 5
"""Seconds to wait for calls that are still under way; a file left open loses nothing."""


@asynccontextmanager
async def open_table(path: Path | None, clock: Clock) -> AsyncIterator[SqliteTable]:
    """Open the table in a file, or in memory without one; StoreError says in one sentence why it cannot be used."""

    def now() -> float:
        return clock.now().timestamp()

    run = run_in_thread() if path else run_inline
    opened = _open_file(path, now) if path else closing(ItemFile(":memory:", now))
    table = SqliteTable(await run(opened.__enter__), run)
    try:
        yield table
    finally:
        with move_on_after(CLOSE_TIMEOUT, shield=True):
            await run(partial(opened.__exit__, None, None, None))


@contextmanager
def _open_file(path: Path, now: Callable[[], float]) -> Iterator[ItemFile]:
    """Open the file for this process alone and for its user alone: it holds health data."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with lock_file(path):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            with closing(ItemFile(str(path), now)) as file:
                yield file
    except OSError as problem:
        raise StoreError(f"{path} cannot be opened: {problem.strerror}.") from problem
