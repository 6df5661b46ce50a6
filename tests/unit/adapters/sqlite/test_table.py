"""Concurrent and cancelled calls of a table, and tables in memory."""

import sqlite3
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from bg_ingest.adapters.sqlite import open_table
from bg_ingest.ports.table import Item, Put
from tests.fakes.clock import SetClock

KEY = ("pk", "sk")
ITEM: Item = {"v": 1, "text": "t"}


@pytest.fixture
def anyio_backend() -> str:
    """An ordinary loop: files are written in threads."""
    return "asyncio"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "directory" / "bg-ingest.sqlite"


async def test_a_cancelled_writer_has_written_all_or_nothing_and_harms_no_other(path: Path) -> None:
    async with open_table(path, SetClock()) as table:
        for number in range(30):
            writes = [Put((f"pk{number}", f"{sk}"), ITEM) for sk in range(60)]
            async with anyio.create_task_group() as group:
                group.start_soon(table.transact, writes)
                group.start_soon(table.write, Put(("pk", f"{number}"), ITEM))
                for _ in range(number % 4):
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
            assert len(await table.batch_get([each.key for each in writes])) in (0, 60)
            await table.write(Put(KEY, {"v": 1, "number": number}))
            assert await table.get(KEY) == {"v": 1, "number": number}


@pytest.mark.slow
async def test_a_cancelled_call_has_ended_when_its_caller_goes_on(path: Path) -> None:
    """A write left behind in its thread would be done later, or in the next caller's transaction."""
    slow: Item = {"v": 1, "raw": bytes(500_000)}
    writes = [Put(("pk", f"{number}"), slow) for number in range(30)]
    first, last = ("pk", "0"), ("pk", "29")
    log = anyio.Path(f"{path}-wal")
    async with open_table(path, SetClock()) as table:
        empty = (await log.stat()).st_size
        async with anyio.create_task_group() as group:
            group.start_soon(table.transact, writes)
            while (await log.stat()).st_size == empty:
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        await table.write(Put(KEY, ITEM))
        found = set(await table.batch_get([first, last]))
    assert found in (set(), {first, last})
    async with open_table(path, SetClock()) as table:
        assert set(await table.batch_get([first, last])) == found


async def test_many_at_once_are_served_one_after_the_other(path: Path) -> None:
    async with open_table(path, SetClock()) as table, anyio.create_task_group() as group:
        for number in range(50):
            group.start_soon(table.transact, [Put(("pk", f"{number}"), ITEM), Put(("pk", f"{number}x"), ITEM)])
    async with open_table(path, SetClock()) as table:
        assert [len(page) async for page in table.query("pk", "0", "z", page=1000)] == [100]


async def test_two_stores_in_memory_know_nothing_of_each_other() -> None:
    async with open_table(None, SetClock()) as one, open_table(None, SetClock()) as other:
        await one.write(Put(KEY, ITEM))
        assert await other.get(KEY) is None


async def test_s4_a_read_does_not_wait_for_a_write(path: Path) -> None:
    async with open_table(path, SetClock()) as table:
        await table.write(Put(KEY, ITEM))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            async with anyio.create_task_group() as group:
                group.start_soon(table.write, Put(KEY, {"v": 2}))
                await anyio.sleep(0.1)
                with anyio.fail_after(1):
                    assert await table.get(KEY) == ITEM
                    assert [page async for page in table.query("pk", "", "z")] == [[(KEY, ITEM)]]
                other.execute("COMMIT")
        assert await table.get(KEY) == {"v": 2}


async def test_a_batch_is_read_between_writes(path: Path) -> None:
    keys = [("pk", f"{number:03}") for number in range(200)]
    async with open_table(path, SetClock()) as table:

        async def write() -> None:
            for number in range(40):
                await table.transact([Put(keys[0], {"v": number}), Put(keys[-1], {"v": number})])

        async with anyio.create_task_group() as group:
            group.start_soon(write)
            for _ in range(200):
                items = await table.batch_get(keys)
                assert items.get(keys[0]) == items.get(keys[-1])


async def test_s4_a_single_read_overtakes_queued_writes_and_reads_of_many_rows(path: Path) -> None:
    """The queues hold 100 calls each. A read in the same queue would follow all of them."""
    async with open_table(path, SetClock()) as table:
        await table.transact([Put(("many", f"{number:03}"), ITEM) for number in range(60)])
        await table.write(Put(KEY, ITEM))
        pages = writes = 0

        async def read_pages() -> None:
            nonlocal pages
            async for _ in table.query("many", "0", "9", page=1):
                pages += 1

        async def write_rows() -> None:
            nonlocal writes
            for number in range(60):
                await table.write(Put(("written", f"{number}"), ITEM))
                writes += 1

        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(read_pages)
                group.start_soon(write_rows)
            while not pages or not writes:
                await anyio.lowlevel.checkpoint()
            pages = writes = 0
            assert await table.get(KEY) == ITEM
            assert pages < 100
            assert writes < 100
            group.cancel_scope.cancel()
