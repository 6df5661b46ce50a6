"""Heads: changed only by commits that read them, kept as tombstones, read at once."""

import pytest

from bg_ingest.domain.commits import Commit, ConnectionSummary, ConnectionUpdate, Head, with_summary
from bg_ingest.domain.connections import ConnectionState
from bg_ingest.domain.quarantine import QuarantinedRecord, QuarantinePage
from bg_ingest.domain.segments import segment_start
from bg_ingest.errors import Fenced, StaleRead
from bg_ingest.ports.table import Table
from bg_ingest.store import Store
from bg_ingest.store.segments import SeriesRead
from tests.fakes.clock import NOON, SetClock
from tests.fakes.counting_table import CountingTable
from tests.harness.sample_values import (
    USER,
    commit_connection,
    commit_readings,
    reading,
    readings_commit_of,
    replaced_fields,
)


async def test_who_is_unknown_has_no_head_no_segments_and_no_readings(store: Store) -> None:
    assert await store.readings.head(USER) is None
    assert await store.readings.read(USER, [segment_start(NOON)]) == SeriesRead(
        None, {}, frozenset({segment_start(NOON)})
    )
    assert await commit_readings(store.readings) == []
    assert await store.quarantine.read_pages(USER, [0]) == {}


async def test_a_first_commit_over_a_head_that_exists_is_outdated(store: Store) -> None:
    await commit_connection(store)
    head = Head(USER, 1, NOON)
    with pytest.raises(StaleRead):
        await store.commits.write(Commit(before=None, head=head))


async def test_a_commit_over_a_head_that_is_gone_is_outdated(store: Store) -> None:
    with pytest.raises(StaleRead):
        await store.commits.write(Commit(before=Head(USER), head=Head(USER, 0, NOON)))
    assert await store.readings.head(USER) is None


async def test_nothing_is_written_over_a_tombstone_but_by_a_connect_that_saw_it(store: Store) -> None:
    active = await commit_connection(store)
    head = await store.readings.head(USER)
    late = await readings_commit_of(store.readings, [reading(1)])
    quarantining = Commit(before=head, head=head or Head(USER), quarantine_pages=(quarantine_page(1),))
    assert head is not None
    await store.commits.write(Commit(before=head, head=replaced_fields(head, erased=True)))
    for commit in (late, quarantining):
        with pytest.raises(StaleRead):
            await store.commits.write(commit)

    await commit_connection(store, replaced_fields(active, generation="second"))
    revived = await store.readings.head(USER)
    assert revived is not None
    assert (revived.erased, revived.last_change) == (False, 2)


async def test_summaries_of_two_providers_do_not_undo_each_other(store: Store) -> None:
    await commit_connection(store)
    head = await store.readings.head(USER)
    assert head is not None
    for provider in ("one", "two"):
        summary = ConnectionSummary(ConnectionState.PAUSED, 300, 60, 900)
        await store.commits.write(Commit(before=head, head=with_summary(head, provider, summary)))
    after = await store.readings.head(USER)
    assert after is not None
    assert set(after.summaries) == {"acme", "one", "two"}
    assert after.summaries["two"] == ConnectionSummary(ConnectionState.PAUSED, 300, 60, 900)


async def test_a_commit_with_nothing_to_write_still_holds_to_its_condition(store: Store) -> None:
    active = await commit_connection(store)
    head = await store.readings.head(USER)
    assert head is not None
    idle = Commit(before=head, head=head, connection_update=ConnectionUpdate(active, active))
    await store.commits.write(idle)
    await store.connections.update(active, replaced_fields(active, generation="second"))
    with pytest.raises(Fenced):
        await store.commits.write(idle)


def quarantine_page(version: int, *records: QuarantinedRecord, start: bool = True) -> QuarantinePage:
    return QuarantinePage(segment_start(NOON) if start else 15, version, records)


async def test_latest_costs_one_read(table: Table) -> None:
    counting = CountingTable(table)
    store = Store(counting, SetClock())
    await commit_connection(store)
    before = counting.asked
    await store.readings.head(USER)
    assert [now - then for now, then in zip(counting.asked, before, strict=True)] == [1, 0, 0]
