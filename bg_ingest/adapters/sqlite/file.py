"""Connection to a SQLite database of items: synchronous, used from one thread at a time and by one process."""

import fcntl
import os
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import msgspec

from bg_ingest.errors import StoreError, StoreLocked, StoreUnavailable
from bg_ingest.ports import table as port
from bg_ingest.ports.table import MAX_WRITES, ConditionFailed, Item, Key, Write, check_conditions

BUSY_TIMEOUT_MS = 2_000
"""Longest wait for another program that locks the file, such as a backup or an open shell."""

PURGE_INTERVAL_SECONDS, PURGE_BATCH_SIZE = 600, 500
"""Interval of purges of expired rows, and maximum number of rows that one purge deletes."""

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS items (
        pk TEXT NOT NULL, sk TEXT NOT NULL, item BLOB NOT NULL, expires_at INTEGER, PRIMARY KEY (pk, sk)
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS expiring ON items (expires_at) WHERE expires_at IS NOT NULL;
"""
_PURGE = """
    DELETE FROM items WHERE (pk, sk) IN (
        SELECT pk, sk FROM items WHERE expires_at IS NOT NULL AND expires_at <= ? LIMIT ?
    )
"""
_PUT = "INSERT OR REPLACE INTO items (pk, sk, item, expires_at) VALUES (?, ?, ?, ?)"
_DELETE = "DELETE FROM items WHERE pk = ? AND sk = ?"
_GET = "SELECT item FROM items WHERE pk = ? AND sk = ?"
_QUERY = "SELECT sk, item FROM items WHERE pk = ? AND sk {} ? AND sk {} ? ORDER BY sk {} LIMIT ?"
_SCAN = (
    "SELECT pk, sk, item FROM items WHERE (pk, sk) > (?, ?) AND unicode(substr(pk, -1)) % ? = ? ORDER BY pk, sk LIMIT ?"
)

_encode = msgspec.msgpack.Encoder().encode
_decode: Callable[[bytes], Item] = msgspec.msgpack.Decoder(dict[str, Any]).decode


class ItemFile:
    """A write is durable when its method returns. sqlite3's errors become StoreUnavailable, except ProgrammingError."""

    def __init__(self, name: str, now: Callable[[], float], busy_timeout_ms: int = BUSY_TIMEOUT_MS) -> None:
        """Open or create the file; ``now`` returns epoch seconds, by which rows expire."""
        with _translate_errors():
            self._database = sqlite3.connect(name, isolation_level=None, check_same_thread=False)
            self._database.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.executescript(_SCHEMA)
        self._now = now
        self._next_purge = now()
        with self._transaction():
            pass  # the first transaction deletes rows that expired while the file was closed
        self._database.execute(f"PRAGMA busy_timeout = {busy_timeout_ms}")

    def close(self) -> None:
        with _translate_errors():
            self._database.close()

    def get(self, keys: Collection[Key]) -> dict[Key, Item]:
        """Return the existing items, all from one snapshot."""
        with _translate_errors():
            if len(keys) == 1:
                return self._get_all(keys)
            self._database.execute("BEGIN")
            try:
                return self._get_all(keys)
            finally:
                self._database.execute("COMMIT")

    def page(
        self, pk: str, low: str, high: str, limit: int, *, after: bool, descending: bool = False
    ) -> list[tuple[Key, Item]]:
        """Return at most ``limit`` items from ``low`` to ``high`` in order.

        With ``after``, the bound at which the order begins is excluded: ``low``, or ``high`` if descending.
        """
        above, below = (">" if after and not descending else ">="), ("<" if after and descending else "<=")
        query = _QUERY.format(above, below, "DESC" if descending else "ASC")
        with _translate_errors():
            rows = self._database.execute(query, (pk, low, high, limit)).fetchall()
        return [((pk, sk), _decode(item)) for sk, item in rows]

    def scan(self, part: int, parts: int, after: Key, limit: int) -> list[tuple[Key, Item]]:
        """Return at most ``limit`` items of one part of the table, those after the key ``after``."""
        with _translate_errors():
            rows = self._database.execute(_SCAN, (*after, parts, part, limit)).fetchall()
        return [((pk, sk), _decode(item)) for pk, sk, item in rows]

    def transact(self, writes: Sequence[Write]) -> None:
        if len(writes) > MAX_WRITES or len({write.key for write in writes}) < len(writes):
            raise ValueError(f"a transaction holds at most {MAX_WRITES} writes, each with a different key")
        with self._transaction():
            before = [self._get(write.key) for write in writes]
            current = {
                i: before[i] for i, write in enumerate(writes) if not check_conditions(write.conditions, before[i])
            }
            if current:
                raise ConditionFailed(current)
            for write, item in zip(writes, before, strict=True):
                self._apply(write, item)

    def delete(self, keys: Collection[Key]) -> None:
        with self._transaction():
            self._database.executemany(_DELETE, keys)

    def _get_all(self, keys: Collection[Key]) -> dict[Key, Item]:
        return {key: item for key in keys if (item := self._get(key)) is not None}

    def _get(self, key: Key) -> Item | None:
        row = self._database.execute(_GET, key).fetchone()
        return None if row is None else _decode(row[0])

    def _apply(self, write: Write, before: Item | None) -> None:
        match write:
            case port.Put(key, item):
                self._put(key, item)
            case port.Update(key, changed, removed):
                after = {name: value for name, value in (before or {}).items() if name not in removed}
                self._put(key, after | changed)
            case port.Delete(key):
                self._database.execute(_DELETE, key)
            case port.Check():
                pass

    def _put(self, key: Key, item: Item) -> None:
        self._database.execute(_PUT, (*key, _encode(item), item.get("expires_at")))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _translate_errors():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._purge()
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:  # SQLite itself rolls back after some errors
                    self._database.execute("ROLLBACK")
                raise

    def _purge(self) -> None:
        now = self._now()
        if now >= self._next_purge:
            self._database.execute(_PURGE, (now, PURGE_BATCH_SIZE))
            self._next_purge = now + PURGE_INTERVAL_SECONDS


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.ProgrammingError:
        raise
    except sqlite3.Error as problem:
        raise StoreUnavailable(f"SQLite reports: {problem}") from problem


@contextmanager
def open_file(path: Path, now: Callable[[], float], *, exclusive: bool = True) -> Iterator[ItemFile]:
    """Open the file, readable by its user only, because it holds health data.

    Without ``exclusive``, other processes may have the file open. SQLite isolates transactions of different processes,
    but a process does not see changes of rows that it keeps in memory.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _lock_file(path) if exclusive else nullcontext():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            with closing(ItemFile(str(path), now)) as file:
                yield file
    except OSError as problem:
        raise StoreError(f"{path} cannot be opened: {problem.strerror}.") from problem


@contextmanager
def open_further(path: Path, now: Callable[[], float], busy_timeout_ms: int = BUSY_TIMEOUT_MS) -> Iterator[ItemFile]:
    """Open another connection to a file that this process has opened."""
    with closing(ItemFile(str(path), now, busy_timeout_ms)) as file:
        yield file


@contextmanager
def _lock_file(file: Path) -> Iterator[None]:
    """Hold ``<file>.lock``; StoreLocked while another process holds it. The system releases the lock of a dead process.

    The lock file stays after the last process: deleting it would let two processes lock two files of one name.
    """
    descriptor = os.open(file.with_name(file.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise StoreLocked(
            f"{file} is in use by another process: SQLite serves one process, several processes need DynamoDB."
        ) from None
    try:
        yield
    finally:
        os.close(descriptor)
