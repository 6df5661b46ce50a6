"""Concurrent writers with delayed and torn reads and failing calls: nothing is lost or duplicated."""

from collections import Counter
from contextlib import suppress
from random import Random

import anyio
import pytest
from anyio.lowlevel import checkpoint

from bg_ingest.domain.changes import ReadingsRecorded, ReadingsRevised
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.readings import Reading
from bg_ingest.errors import Fenced, StaleRead, StoreUnavailable, TransactionConflict
from bg_ingest.ports.table import Table
from bg_ingest.store import Store
from tests.fakes.clock import SetClock
from tests.fakes.faults import ConflictingCalls, Fault, FaultyCalls, StaleReads, every
from tests.harness.sample_values import (
    ACME,
    commit_connection,
    commit_readings,
    connection,
    reading,
    readings_commit_of,
    unpublished_changes,
)

WRITERS = 32


async def ingest(store: Store, batch: list[Reading]) -> None:
    """Commit a batch as the ingest does: decide, commit, and after a lost race decide again."""
    while True:
        try:
            commit = await readings_commit_of(store.readings, batch)
            if commit.changes:
                await store.commits.write(commit)
        except (StaleRead, StoreUnavailable, TransactionConflict):
            continue
        return


async def write_all(store: Store, batches: list[list[Reading]]) -> None:
    async with anyio.create_task_group() as group:
        for batch in batches:
            group.start_soon(ingest, store, batch)


def batches_of(random: Random) -> list[list[Reading]]:
    """Give each writer unique readings and some that other writers have too, over three segments."""
    shared = [reading(number, 100) for number in range(0, 200, 10)]
    own = [[reading(number + 1, 110), reading(number + 72, 120)] for number in range(0, 320, 10)]
    return [[*mine, *random.sample(shared, 5)] for mine in own[:WRITERS]]


async def release_after(count: int) -> None:
    for _ in range(count):
        await checkpoint()


async def assert_nothing_lost(store: Store, batches: list[list[Reading]]) -> None:
    """Every reading is stored once and published once, and the change numbers are contiguous."""
    expected = {each.identity for batch in batches for each in batch}
    kept = await commit_readings(store.readings)
    assert Counter(each.reading.identity for each in kept) == Counter(expected)

    head = await store.readings.head(ACME.user)
    changes = await unpublished_changes(store)
    assert head is not None
    assert [each.number for each in changes] == list(range(1, head.last_change + 1))
    published = [
        (each.reading.identity, each.change, change.number)
        for change in changes
        if isinstance(change.data, ReadingsRecorded | ReadingsRevised)
        for each in change.data.readings
    ]
    assert Counter(identity for identity, _, _ in published) == Counter(expected)
    assert {(identity, number) for identity, _, number in published} == {(e.reading.identity, e.change) for e in kept}
    instants = [each.recorded_at for each in changes]
    assert instants == sorted(set(instants))
    assert head.newest is not None
    assert head.newest.reading.measured_at == max(each.reading.measured_at for each in kept)


@pytest.mark.parametrize("seed", range(2))
async def test_32_writers_with_late_reads_and_failing_calls_lose_and_double_nothing(table: Table, seed: int) -> None:
    random = Random(seed)
    plain = Store(table, SetClock())
    await commit_connection(plain)
    late = StaleReads(table, random, lambda share: release_after(int(share * 40)))
    lossy = FaultyCalls(FaultyCalls(late, every(7, Fault.BEFORE)), every(5, Fault.AFTER))
    batches = batches_of(random)
    with anyio.fail_after(60):
        await write_all(Store(lossy, SetClock()), batches)
    await assert_nothing_lost(plain, batches)


async def test_two_writers_of_the_same_batch_store_and_publish_it_once(table: Table) -> None:
    store = Store(table, SetClock())
    await commit_connection(store)
    batch = [reading(number) for number in range(5)]
    slow = Store(StaleReads(table, Random(1), lambda share: release_after(int(share * 9))), SetClock())
    await write_all(slow, [batch, batch])
    await assert_nothing_lost(store, [batch])


async def test_a_conflict_with_another_transaction_loses_nothing(table: Table) -> None:
    plain = Store(table, SetClock())
    await commit_connection(plain)
    batches = [[reading(number)] for number in range(6)]
    await write_all(Store(ConflictingCalls(table, 1, 2, 5), SetClock()), batches)
    await assert_nothing_lost(plain, batches)


async def test_of_users_who_connect_one_provider_account_at_once_one_holds_it(table: Table) -> None:
    store = Store(StaleReads(table, Random(2), lambda share: release_after(int(share * 9))), SetClock())
    connected: list[str] = []

    async def try_connect(user: UserId) -> None:
        with suppress(Fenced):
            await commit_connection(store, connection(id=ConnectionId(user, "acme")))
            connected.append(user)

    async with anyio.create_task_group() as group:
        for number in range(8):
            group.start_soon(try_connect, UserId(f"user-{number}"))
    assert connected == [await store.connections.find_user("acme", "us", "account-1")]
