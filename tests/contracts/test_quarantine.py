"""Quarantine pages: one per segment and sixteen for records without a time, each with its own version."""

from datetime import datetime, timedelta

import msgspec
import pytest

from bg_ingest.domain.commits import Commit
from bg_ingest.domain.quarantine import QuarantinedRecord, QuarantineKey, QuarantinePage
from bg_ingest.domain.segments import segment_start
from bg_ingest.domain.windows import Window
from bg_ingest.errors import StaleRead
from bg_ingest.ports.table import Put, Table
from bg_ingest.store import Store, keys
from tests.fakes.clock import NOON
from tests.harness.sample_values import (
    USER,
    commit_connection,
    reading,
    readings_commit_of,
)


def quarantine_page(version: int, *records: QuarantinedRecord, start: bool = True) -> QuarantinePage:
    return QuarantinePage(segment_start(NOON) if start else 15, version, records)


async def test_quarantined_records_are_stored_by_segment_and_apart_where_their_time_is_unknown(store: Store) -> None:
    await commit_connection(store)
    head = await store.readings.head(USER)
    assert head is not None
    one, two = (QuarantinedRecord("no_value", digest, b"sealed", NOON) for digest in (b"1", b"2"))
    pages = (quarantine_page(1, one, two), quarantine_page(1, one, start=False))
    await store.commits.write(Commit(before=head, head=head, quarantine_pages=pages))
    found = await store.quarantine.read_pages(USER, [segment_start(NOON), 0, 15, NOON + timedelta(days=9)])
    assert found == {segment_start(NOON): pages[0], 15: pages[1]}


async def test_every_quarantine_page_of_a_user_is_found_with_the_owner_of_its_records_the_timeless_last(
    store: Store,
) -> None:
    await commit_connection(store)
    head = await store.readings.head(USER)
    assert head is not None
    record = QuarantinedRecord("no_value", b"1", b"sealed", NOON, "acme", "account-1")
    starts = [segment_start(NOON - n * timedelta(days=900)) for n in range(3)]
    folders: list[QuarantineKey] = [*reversed(starts), 0, 15]
    pages = [QuarantinePage(each, 1, (record,)) for each in folders]
    for each in pages:
        await store.commits.write(Commit(before=head, head=head, quarantine_pages=(each,)))
    await store.commits.write(await readings_commit_of(store.readings, [reading(0)]))
    assert [each async for each in store.quarantine.iter_pages(USER)] == pages


async def test_the_quarantine_pages_of_a_window_are_those_of_segments_that_begin_in_it(store: Store) -> None:
    await commit_connection(store)
    head = await store.readings.head(USER)
    assert head is not None
    record = QuarantinedRecord("no_value", b"1", b"sealed", NOON, "acme", "account-1")
    keys_of_pages: list[QuarantineKey] = [segment_start(NOON) + n * timedelta(hours=6) for n in range(-3, 3)]
    for key in (*keys_of_pages, 15):
        page = QuarantinePage(key, 1, (record,))
        await store.commits.write(Commit(before=head, head=head, quarantine_pages=(page,)))
    steps = [timedelta(hours=-6), timedelta(hours=-1), -timedelta.resolution, timedelta(0), timedelta.resolution]
    for start in (segment_start(NOON) + step for step in steps):
        for end in (start + timedelta(hours=1), start + timedelta(hours=6), start + timedelta(hours=12)):
            found = [page.key async for page in store.quarantine.iter_pages(USER, Window(start, end))]
            assert found == [key for key in keys_of_pages if isinstance(key, datetime) and start <= key < end]


async def test_a_record_kept_before_it_said_whose_it_is_is_read(store: Store, table: Table) -> None:
    await commit_connection(store)
    records = msgspec.msgpack.encode([["no_value", b"1", b"sealed", 1_000]])
    await table.write(Put(keys.quarantine(USER, 0), {"v": 1, "version": 1, "records": records}))
    (found,) = [each async for each in store.quarantine.iter_pages(USER)]
    assert [(each.reason, each.provider) for each in found.records] == [("no_value", "")]


@pytest.mark.parametrize("version", [1, 3])
async def test_a_quarantine_page_is_written_only_over_the_version_before_it(store: Store, version: int) -> None:
    await commit_connection(store)
    head = await store.readings.head(USER)
    assert head is not None
    for each in (1, 2, 3):
        await store.commits.write(Commit(before=head, head=head, quarantine_pages=(quarantine_page(each),)))
    with pytest.raises(StaleRead):
        await store.commits.write(Commit(before=head, head=head, quarantine_pages=(quarantine_page(version),)))
