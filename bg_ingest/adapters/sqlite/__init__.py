"""The embedded store: one SQLite file, one process, nothing to install."""

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, closing
from functools import partial
from pathlib import Path

from anyio import move_on_after

from bg_ingest.adapters.sqlite.file import ItemFile, open_file, open_further
from bg_ingest.adapters.sqlite.table import FileAccess, SqliteTable, run_in_thread, run_inline
from bg_ingest.ports import Clock

INLINE_BUSY_TIMEOUT_MS = 10
"""Longest wait in the event loop's thread for another program that locks the file. In WAL mode no reader waits for a
writer; only a program that locks the file exclusively makes it wait."""

CLOSE_TIMEOUT = 5
"""Seconds to wait for calls in progress at the end; a file that stays open loses nothing."""


@asynccontextmanager
async def open_table(path: Path | None, clock: Clock, *, exclusive: bool = True) -> AsyncIterator[SqliteTable]:
    """Open the table in a file, or in memory without one. StoreError gives the reason of a failure in one sentence.

    A file is opened for this process alone, unless ``exclusive`` is False.
    """

    def now() -> float:
        return clock.now().timestamp()

    if path:
        # In WAL mode, other connections read while one writes and syncs. Single rows are read in the event loop's
        # thread, which takes some microseconds: a worker thread would cost several passes of the event loop, each of
        # which may hold other work.
        async with (
            _open(open_file(path, now, exclusive=exclusive)) as writes,
            _open(open_further(path, now)) as page_reads,
        ):
            with open_further(path, now, busy_timeout_ms=INLINE_BUSY_TIMEOUT_MS) as single_reads:
                yield SqliteTable(FileAccess(single_reads, run_inline), page_reads, writes)
    else:
        with closing(ItemFile(":memory:", now)) as file:
            access = FileAccess(file, run_inline)
            yield SqliteTable(access, access, access)


@asynccontextmanager
async def _open(file: AbstractContextManager[ItemFile]) -> AsyncIterator[FileAccess]:
    run = run_in_thread()
    access = FileAccess(await run(file.__enter__), run)
    try:
        yield access
    finally:
        with move_on_after(CLOSE_TIMEOUT, shield=True):
            await run(partial(file.__exit__, None, None, None))
