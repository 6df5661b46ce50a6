"""Properties of a database file: durable, locked, full, or owned by another user."""

import resource
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from stat import S_IMODE

import anyio
import pytest

from bg_ingest.adapters.sqlite import open_table
from bg_ingest.adapters.sqlite.file import PURGE_INTERVAL_SECONDS
from bg_ingest.errors import StoreError, StoreUnavailable
from bg_ingest.ports.table import (
    Item,
    Put,
    Table,
    Update,
)
from tests.fakes.clock import NOON, SetClock

KEY = ("pk", "sk")
ITEM: Item = {"v": 1, "text": "t"}


@pytest.fixture
def anyio_backend() -> str:
    """An ordinary loop: files are written in threads."""
    return "asyncio"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "directory" / "bg-ingest.sqlite"


@contextmanager
def another_program(path: Path) -> Iterator[sqlite3.Connection]:
    rows = sqlite3.connect(path, isolation_level=None)
    try:
        yield rows
    finally:
        rows.close()


async def test_what_was_written_is_there_after_opening_again(path: Path) -> None:
    async with open_table(path, SetClock()) as table:
        await table.write(Put(KEY, ITEM))
    async with open_table(path, SetClock()) as table:
        assert await table.get(KEY) == ITEM


async def test_a_file_is_its_users_alone_with_its_directory_and_all_that_lies_beside_it(path: Path) -> None:
    async with open_table(path, SetClock()) as table:
        await table.write(Put(KEY, ITEM))
        files = {each.name: S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert set(files) >= {path.name, path.name + "-wal", path.name + ".lock"}
    assert set(files.values()) == {0o600}
    assert S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_a_second_opening_is_refused_in_one_sentence_until_the_first_is_closed(path: Path) -> None:
    async with open_table(path, SetClock()):
        with pytest.raises(StoreError, match=r"in use by another process.*DynamoDB\.$"):
            async with open_table(path, SetClock()):
                pass
    async with open_table(path, SetClock()) as table:
        assert await table.get(KEY) is None


_WRITE_ON = """
import sys, anyio
from itertools import count
from pathlib import Path
from bg_ingest.adapters.clock import SystemClock
from bg_ingest.adapters.sqlite import open_table
from bg_ingest.ports.table import Put
async def write_on():
    async with open_table(Path(sys.argv[1]), SystemClock()) as table:
        for number in count():
            await table.transact([Put((pk, f"{number:09}"), {"v": 1}) for pk in ("one", "other")])
            print(number, flush=True)
anyio.run(write_on)
"""


def writing_on(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", _WRITE_ON, str(path)], stdout=subprocess.PIPE, text=True)


async def test_a_killed_process_lets_the_file_go_and_all_that_it_confirmed_is_there(path: Path) -> None:
    with writing_on(path) as writer:
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "0\n"
            with pytest.raises(StoreError, match="in use"):
                async with open_table(path, SetClock()):
                    pass
            lines = [writer.stdout.readline() for _ in range(20)]
        finally:
            writer.kill()
        confirmed = int([*lines, *writer.stdout.readlines()][-1])
    async with open_table(path, SetClock()) as table:
        one, other = await left(table, "one"), await left(table, "other")
    assert one == other
    assert len(one) > confirmed


async def test_a_file_another_program_keeps_locked_is_unavailable_and_then_available_again(path: Path) -> None:
    async with open_table(path, SetClock()) as table:
        with another_program(path) as rows:
            rows.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailable):
                await table.write(Put(KEY, ITEM))
            rows.execute("ROLLBACK")
        await table.write(Put(KEY, ITEM))
        assert await table.get(KEY) == ITEM


async def test_a_full_disk_is_unavailable_and_nothing_is_half_written(path: Path) -> None:
    big: Item = {"v": 1, "raw": bytes(200_000)}
    async with open_table(path, SetClock()) as table:
        await table.write(Put(KEY, ITEM))
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            with pytest.raises(StoreUnavailable):
                await table.transact([Put(KEY, big), Put(("pk", "other"), big)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert await table.batch_get([KEY, ("pk", "other")]) == {KEY: ITEM}
        await table.write(Put(KEY, big))
        assert await table.get(KEY) == big


@pytest.mark.parametrize("in_file", [True, False])
async def test_expired_rows_are_deleted_at_opening_and_now_and_then(path: Path, *, in_file: bool) -> None:
    clock = SetClock()
    noon = int(NOON.timestamp())
    async with open_table(path if in_file else None, clock) as table:
        for minutes in (1, 60):
            await table.write(Put(("pk", f"{minutes}"), {"v": 1, "expires_at": noon + minutes * 60}))
        await table.write(Put(("pk", "kept"), {"v": 1, "expires_at": noon + 60}))
        await table.write(Update(("pk", "kept"), {}, ("expires_at",), ()))
        clock.advance(timedelta(seconds=PURGE_INTERVAL_SECONDS))
        await table.write(Put(KEY, ITEM))
        assert set(await left(table)) == {"60", "kept", "sk"}
        clock.advance(timedelta(hours=1))
        assert set(await left(table)) == {"60", "kept", "sk"}
    if in_file:
        async with open_table(path, clock) as table:
            assert set(await left(table)) == {"kept", "sk"}


async def left(table: Table, pk: str = "pk") -> list[str]:
    return [key[1] async for page in table.query(pk, "0", "z") for key, _ in page]


async def test_what_is_no_database_is_refused_and_left_as_it_is(path: Path) -> None:
    diary = anyio.Path(path)
    await diary.parent.mkdir(parents=True)
    await diary.write_text(before := "dear diary, this is the only copy of you " * 9)
    with pytest.raises(StoreError, match="not a database"):
        async with open_table(path, SetClock()):
            pass
    assert await diary.read_text() == before


async def test_a_path_that_cannot_be_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot be opened: .+\.$"):
        async with open_table(tmp_path / "file" / "bg-ingest.sqlite", SetClock()):
            pass
