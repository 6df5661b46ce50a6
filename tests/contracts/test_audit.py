"""Audit records: read by user and window until they expire, with one key for all hashes."""

from datetime import datetime, timedelta

import anyio

from bg_ingest.domain.access import AuditAction, AuditRecord
from bg_ingest.domain.windows import Window
from bg_ingest.store import Store
from tests.fakes.clock import NOON

ADA, BEN = "ab" * 16, "cd" * 16
HOUR, YEAR = timedelta(hours=1), timedelta(days=365)


def record(hours: int, user_hash: str = ADA, action: AuditAction = AuditAction.CHANGE, nonce: str = "") -> AuditRecord:
    return AuditRecord(user_hash, NOON + hours * HOUR, action, "key:one", "GET /api/bg/{user_id}", nonce)


async def stored(store: Store, start: int, end: int, *, user_hash: str = ADA, now: datetime = NOON) -> list[int]:
    """Return the hours of the records in a window."""
    window = Window(NOON + start * HOUR, NOON + end * HOUR)
    return [
        (each.at - NOON) // HOUR async for page in store.audit.iter_records(user_hash, window, now) for each in page
    ]


async def test_records_of_a_person_are_read_ascending_in_a_half_open_window(store: Store) -> None:
    await store.audit.add([record(2), record(0), record(1), record(1, BEN)], NOON + YEAR)
    assert await stored(store, 0, 3) == [0, 1, 2]
    assert await stored(store, 0, 2) == [0, 1]
    assert await stored(store, 0, 3, user_hash=BEN) == [1]
    assert await stored(store, 3, 9) == []


async def test_a_record_is_read_back_without_its_nonce(store: Store) -> None:
    await store.audit.add([record(1, nonce="mark")], NOON + YEAR)
    pages = [page async for page in store.audit.iter_records(ADA, Window(NOON, NOON + YEAR), NOON)]
    assert pages == [[record(1)]]


async def test_the_same_record_again_is_one_and_changes_of_one_instant_are_two(store: Store) -> None:
    await store.audit.add([record(1, action=AuditAction.READ)], NOON + YEAR)
    await store.audit.add([record(1, action=AuditAction.READ)], NOON + YEAR)
    await store.audit.add([record(2, nonce="a"), record(2, nonce="b")], NOON + YEAR)
    assert await stored(store, 0, 9) == [1, 2, 2]


async def test_more_records_than_concurrent_writes_are_all_written(store: Store) -> None:
    await store.audit.add([record(number) for number in range(30)], NOON + YEAR)
    assert await stored(store, 0, 30) == list(range(30))


async def test_expired_records_are_not_read(store: Store) -> None:
    await store.audit.add([record(0)], NOON + HOUR)
    await store.audit.add([record(1)], NOON + YEAR)
    assert await stored(store, 0, 9, now=NOON + HOUR) == [1]


async def test_the_first_key_of_the_hashes_stays(store: Store) -> None:
    assert await store.audit.hash_key(b"first") == b"first"
    assert await store.audit.hash_key(b"second") == b"first"


async def test_processes_that_start_together_get_one_key(store: Store) -> None:
    keys: set[bytes] = set()

    async def start(fresh: bytes) -> None:
        keys.add(await store.audit.hash_key(fresh))

    async with anyio.create_task_group() as group:
        for number in range(8):
            group.start_soon(start, bytes([number]))
    assert len(keys) == 1
