"""The embedded store: one SQLite file, one process, nothing to install."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path

from anyio import move_on_after

from bg_ingest.adapters.sqlite.file import ItemFile, open_file
from bg_ingest.adapters.sqlite.table import SqliteTable, run_in_thread, run_inline
from bg_ingest.ports import Clock

CLOSE_TIMEOUT = 5
"""Seconds to wait for calls in progress at the end; a file that stays open loses nothing."""


@asynccontextmanager
async def open_table(path: Path | None, clock: Clock) -> AsyncIterator[SqliteTable]:
    """Open the table in a file, or in memory without one. StoreError gives the reason of a failure in one sentence."""

    def now() -> float:
        return clock.now().timestamp()

    run = run_in_thread() if path else run_inline
    opened = open_file(path, now) if path else closing(ItemFile(":memory:", now))
    table = SqliteTable(await run(opened.__enter__), run)
    try:
        yield table
    finally:
        with move_on_after(CLOSE_TIMEOUT, shield=True):
            await run(partial(opened.__exit__, None, None, None))
