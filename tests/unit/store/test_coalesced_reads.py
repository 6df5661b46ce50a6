"""Shared reads are as fresh as single ones, and the fault of one request or key concerns no other."""

from collections.abc import Collection
from typing import Any, cast

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bg_ingest.errors import StoreError, StoreUnavailable
from bg_ingest.ports.table import Key, StoredItem
from bg_ingest.store.coalesced_reads import MAX_CALLS, MAX_KEYS, CoalescedReads
from tests.conftest import on

anyio_backend = on("asyncio", "trio")

KEYS: list[Key] = [(f"user#{number}", "head") for number in range(100)]


class VersionedTable:
    """Table whose items hold the time of their read. A call reads at a chosen part of its duration."""

    def __init__(self, seconds: float = 1.0, read_after: float = 0.0) -> None:
        self.calls: list[tuple[str, list[Key]]] = []
        self.bad: set[Key] = set()
        """Keys that the store refuses. A batch with one of them fails as a whole."""
        self.unprocessed: set[Key] = set()
        self.unavailable = False
        self.in_progress = self.most_in_progress = self.cancelled = 0
        self._seconds, self._read_after = seconds, read_after

    async def get(self, key: Key) -> StoredItem | None:
        return (await self._answer("get", [key]))[key]

    async def batch_get_once(self, keys: Collection[Key]) -> dict[Key, StoredItem | None]:
        items = await self._answer("batch", list(keys))
        return {key: item for key, item in items.items() if key not in self.unprocessed}

    async def _answer(self, operation: str, keys: list[Key]) -> dict[Key, StoredItem | None]:
        assert len(set(keys)) == len(keys) <= MAX_KEYS
        self.calls.append((operation, keys))
        self.in_progress += 1
        self.most_in_progress = max(self.most_in_progress, self.in_progress)
        try:
            await anyio.sleep(self._seconds * self._read_after)
            at = anyio.current_time()
            await anyio.sleep(self._seconds * (1 - self._read_after))
        except BaseException:
            self.cancelled += len(keys) > 1
            raise
        finally:
            self.in_progress -= 1
        if self.unavailable:
            raise StoreUnavailable("no answer")
        if self.bad.intersection(keys):
            raise StoreError("a key is invalid")
        return {key: {"key": key, "at": at} for key in keys}


def reads_of(table: VersionedTable) -> CoalescedReads:
    return CoalescedReads(cast("Any", table))


async def read_all(reads: CoalescedReads, keys: Collection[Key]) -> dict[Key, StoredItem | StoreError | None]:
    answers: dict[Key, StoredItem | StoreError | None] = {}

    async def read(key: Key) -> None:
        try:
            answers[key] = await reads.get(key)
        except StoreError as error:
            answers[key] = error

    async with anyio.create_task_group() as tasks:
        for key in keys:
            tasks.start_soon(read, key)
    return answers


async def test_a_single_request_is_a_single_read() -> None:
    table = VersionedTable()
    await reads_of(table).get(KEYS[0])
    assert table.calls == [("get", [KEYS[0]])]


async def test_requests_of_one_pass_share_one_call() -> None:
    table = VersionedTable()
    await read_all(reads_of(table), KEYS[:8])
    assert [(operation, len(keys)) for operation, keys in table.calls] == [("batch", 8)]


async def test_requests_for_one_key_share_one_single_read() -> None:
    table = VersionedTable()
    reads = reads_of(table)
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(reads.get, KEYS[0])
    assert table.calls == [("get", [KEYS[0]])]


async def test_calls_and_their_keys_are_bounded() -> None:
    table = VersionedTable()
    answers = await read_all(reads_of(table), KEYS)
    assert len(answers) == len(KEYS)
    sizes = sorted(len(keys) for _, keys in table.calls)  # calls that wait for a place may begin in any order
    assert sizes == [len(KEYS) % MAX_KEYS, MAX_KEYS, MAX_KEYS, MAX_KEYS]
    assert table.most_in_progress == MAX_CALLS


async def test_an_unprocessed_key_is_read_alone_and_delays_no_other() -> None:
    table = VersionedTable()
    table.unprocessed = {KEYS[3]}
    began = anyio.current_time()
    reads, ended = reads_of(table), dict[Key, float]()

    async def read(key: Key) -> None:
        assert await reads.get(key) is not None
        ended[key] = anyio.current_time() - began

    async with anyio.create_task_group() as tasks:
        for key in KEYS[:8]:
            tasks.start_soon(read, key)
    assert {key for key, seconds in ended.items() if seconds > 1} == {KEYS[3]}


async def test_a_key_that_the_store_refuses_fails_its_own_request_only() -> None:
    table = VersionedTable()
    table.bad = {KEYS[3]}
    answers = await read_all(reads_of(table), KEYS[:8])
    assert [key for key, answer in answers.items() if isinstance(answer, StoreError)] == [KEYS[3]]


async def test_a_store_without_an_answer_is_called_once_for_all() -> None:
    table = VersionedTable()
    table.unavailable = True
    answers = await read_all(reads_of(table), KEYS[:8])
    assert all(isinstance(answer, StoreUnavailable) for answer in answers.values())
    assert len(table.calls) == 1


async def test_the_error_of_a_single_read_is_raised_without_a_second_call() -> None:
    table = VersionedTable()
    table.bad = {KEYS[0]}
    with pytest.raises(StoreError, match="invalid"):
        await reads_of(table).get(KEYS[0])
    assert len(table.calls) == 1


async def test_a_cancelled_single_request_ends_at_once() -> None:
    table = VersionedTable(seconds=60)
    with anyio.move_on_after(1) as scope:
        await reads_of(table).get(KEYS[0])
    assert scope.cancelled_caught
    assert table.in_progress == 0


Arrival = tuple[float, int, float | None]
"""Time of a request, number of its key, and its patience; None if it waits for the answer."""

ARRIVALS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0, 1.4, 2.0]),
        st.integers(0, 12) | st.integers(0, 99),
        st.none() | st.sampled_from([0.05, 0.5, 1.0, 1.5]),
    ),
    max_size=90,
)


@pytest.mark.slow
@given(
    arrivals=ARRIVALS,
    bad=st.sets(st.integers(0, 12), max_size=2),
    unprocessed=st.sets(st.integers(0, 12), max_size=4),
    read_after=st.sampled_from([0.0, 0.5, 1.0]),
)
async def test_no_answer_is_older_than_its_request_and_no_request_fails_for_another(
    arrivals: list[Arrival], bad: set[int], unprocessed: set[int], read_after: float
) -> None:
    table = VersionedTable(read_after=read_after)
    table.bad, table.unprocessed = {KEYS[number] for number in bad}, {KEYS[number] for number in unprocessed}
    reads = reads_of(table)
    answered = 0

    async def request(at: float, number: int, patience: float | None) -> None:
        nonlocal answered
        await anyio.sleep(at)
        began = anyio.current_time()
        with anyio.CancelScope() if patience is None else anyio.move_on_after(patience) as scope:
            try:
                item = await reads.get(KEYS[number])
            except StoreError:
                assert number in bad
            else:
                assert number not in bad
                assert item is not None
                assert item["key"] == KEYS[number]
                assert item["at"] >= began
        answered += not scope.cancelled_caught

    async with anyio.create_task_group() as tasks:
        for arrival in arrivals:
            tasks.start_soon(request, *arrival)
    assert answered >= sum(patience is None for _, _, patience in arrivals)
    assert table.most_in_progress <= MAX_CALLS
    assert table.cancelled == 0, "a call of several keys was cancelled"
    before = len(table.calls)
    assert await reads.get(KEYS[99]) is not None, "a slot or an unsent call was left behind"
    assert len(table.calls) == before + 1
