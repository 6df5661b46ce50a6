"""The one transaction: all of it or nothing, and nothing over what changed since it was read."""

from datetime import timedelta

import msgspec
import pytest

from bg_ingest.domain.changes import ConnectionChanged, ReadingsRecorded, ReadingsRevised
from bg_ingest.domain.commits import Commit, ConnectionSummary, ConnectionUpdate, Head, with_summary
from bg_ingest.domain.connections import ConnectionState
from bg_ingest.domain.quarantine import QuarantinedRecord, QuarantineKey, QuarantinePage
from bg_ingest.domain.readings import AsSent, StoredReading
from bg_ingest.domain.segment_codec import unpack
from bg_ingest.domain.segments import segment_start
from bg_ingest.domain.windows import Window
from bg_ingest.errors import Fenced, StaleRead, StoreError
from bg_ingest.ports.table import Put, Table
from bg_ingest.store import Store, keys
from tests.fakes.clock import NOON, SetClock
from tests.fakes.counting_table import CountingTable
from tests.harness.sample_values import (
    USER,
    commit_connection,
    commit_readings,
    connection,
    reading,
    readings_commit_of,
    replaced_fields,
    unpublished_changes,
    values_of,
)

EVENING = 72
"""So many readings later begins another segment."""


async def test_what_was_committed_is_read_back_as_it_was(store: Store) -> None:
    await commit_connection(store)
    batch = [reading(n, 100 + n, trend="flat", trend_rate_mg_dl_min=n / 10, utc_offset_seconds=3600) for n in range(80)]
    batch[3] = replaced_fields(batch[3], sent=AsSent(6.1, "mmol/L"))
    commit = await readings_commit_of(store.readings, batch)
    await store.readings.commit(commit)

    assert [each.reading for each in await commit_readings(store.readings)] == batch
    head, known = await store.readings.read(USER, {segment_start(each.measured_at) for each in batch})
    assert head == commit.head == await store.readings.head(USER)
    assert head.newest is not None
    assert head.newest.reading == batch[-1]
    assert list(known.values()) == list(commit.segments)


async def test_who_is_unknown_has_no_head_no_segments_and_no_readings(store: Store) -> None:
    assert await store.readings.head(USER) is None
    assert await store.readings.read(USER, [segment_start(NOON)]) == (None, {})
    assert await commit_readings(store.readings) == []
    assert await store.readings.read_pages(USER, [0]) == {}


async def test_changes_are_numbered_and_wait_in_the_outbox_with_their_data(store: Store) -> None:
    await commit_connection(store)
    await store.readings.commit(await readings_commit_of(store.readings, [reading(1, 110)]))
    await store.readings.commit(await readings_commit_of(store.readings, [reading(1, 111), reading(2, 120)]))

    changes = await unpublished_changes(store)
    assert [each.number for each in changes] == [1, 2, 3, 4]
    kinds = [ConnectionChanged, ReadingsRecorded, ReadingsRecorded, ReadingsRevised]
    assert [type(each.data) for each in changes] == kinds
    published = [each.data.readings for each in changes if isinstance(each.data, ReadingsRecorded | ReadingsRevised)]
    assert [values_of(each) for each in published] == [[110], [120], [111]]
    assert [each.glucose_mg_dl for each in published[2][0].earlier] == [110]
    assert values_of(await commit_readings(store.readings)) == [111, 120]
    assert changes[0].recorded_at < changes[1].recorded_at < changes[2].recorded_at == changes[3].recorded_at


async def test_a_commit_over_a_newer_head_is_outdated_and_writes_nothing(store: Store) -> None:
    await commit_connection(store)
    mine = await readings_commit_of(store.readings, [reading(1), reading(EVENING)])
    await store.readings.commit(await readings_commit_of(store.readings, [reading(-EVENING)]))
    with pytest.raises(StaleRead):
        await store.readings.commit(mine)
    assert [each.reading for each in await commit_readings(store.readings)] == [reading(-EVENING)]
    assert len(await unpublished_changes(store)) == 2


async def test_a_commit_over_a_newer_head_is_outdated_even_when_that_change_has_expired(
    store: Store, table: Table
) -> None:
    await commit_connection(store)
    mine = await readings_commit_of(store.readings, [reading(1)])
    await store.readings.commit(await readings_commit_of(store.readings, [reading(-EVENING)]))
    await table.delete([keys.change(USER, 2)])
    with pytest.raises(StaleRead):
        await store.readings.commit(mine)


async def test_a_first_commit_over_a_head_that_exists_is_outdated(store: Store) -> None:
    await commit_connection(store)
    head = Head(USER, 1, NOON)
    with pytest.raises(StaleRead):
        await store.readings.commit(Commit(before=None, head=head))


async def test_a_commit_over_a_head_that_is_gone_is_outdated(store: Store) -> None:
    with pytest.raises(StaleRead):
        await store.readings.commit(Commit(before=Head(USER), head=Head(USER, 0, NOON)))
    assert await store.readings.head(USER) is None


async def test_a_commit_over_a_newer_segment_is_outdated_although_the_head_is_as_read(store: Store) -> None:
    """The segment was read before another commit, the head after it."""
    await commit_connection(store)
    await store.readings.commit(await readings_commit_of(store.readings, [reading(1)]))
    mine = await readings_commit_of(store.readings, [reading(2)])
    await store.readings.commit(await readings_commit_of(store.readings, [reading(3)]))
    late = await readings_commit_of(store.readings, [reading(4)])
    torn = replaced_fields(late, known_segments=mine.known_segments, segments=mine.segments)
    with pytest.raises(StaleRead):
        await store.readings.commit(torn)
    assert [each.reading for each in await commit_readings(store.readings)] == [reading(1), reading(3)]


async def test_a_commit_that_believes_a_segment_new_does_not_replace_it(store: Store) -> None:
    await commit_connection(store)
    mine = await readings_commit_of(store.readings, [reading(2)])
    await store.readings.commit(await readings_commit_of(store.readings, [reading(3)]))
    late = await readings_commit_of(store.readings, [reading(4)])
    with pytest.raises(StaleRead):
        await store.readings.commit(replaced_fields(late, known_segments={}, segments=mine.segments))
    assert [each.reading for each in await commit_readings(store.readings)] == [reading(3)]


async def test_repeating_a_commit_whose_reply_was_lost_is_outdated(store: Store) -> None:
    await commit_connection(store)
    commit = await readings_commit_of(store.readings, [reading(1)])
    await store.readings.commit(commit)
    with pytest.raises(StaleRead):
        await store.readings.commit(commit)
    assert len(await unpublished_changes(store)) == 2


async def test_a_published_number_is_never_published_with_other_data(store: Store) -> None:
    await commit_connection(store)
    commit = await readings_commit_of(store.readings, [reading(1)])
    first = (await unpublished_changes(store))[0]
    with pytest.raises(StaleRead):
        await store.readings.commit(replaced_fields(commit, changes=(replaced_fields(commit.changes[0], number=1),)))
    assert await unpublished_changes(store) == [first]


async def test_nothing_is_written_over_a_tombstone_but_by_a_connect_that_saw_it(store: Store) -> None:
    active = await commit_connection(store)
    head = await store.readings.head(USER)
    late = await readings_commit_of(store.readings, [reading(1)])
    shelved = Commit(before=head, head=head or Head(USER), quarantine_pages=(quarantine_page(1),))
    assert head is not None
    await store.readings.commit(Commit(before=head, head=replaced_fields(head, erased=True)))
    for commit in (late, shelved):
        with pytest.raises(StaleRead):
            await store.readings.commit(commit)

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
        await store.readings.commit(Commit(before=head, head=with_summary(head, provider, summary)))
    after = await store.readings.head(USER)
    assert after is not None
    assert set(after.summaries) == {"acme", "one", "two"}
    assert after.summaries["two"] == ConnectionSummary(ConnectionState.PAUSED, 300, 60, 900)


async def test_a_connection_that_is_not_as_read_fences_the_whole_commit(store: Store) -> None:
    active = await commit_connection(store)
    moved = replaced_fields(active, watermark=NOON)
    await store.connections.update(active, moved)
    commit = await readings_commit_of(store.readings, [reading(1)])
    late = replaced_fields(
        commit, connection_update=ConnectionUpdate(active, replaced_fields(active, watermark=NOON + timedelta(hours=1)))
    )
    with pytest.raises(Fenced):
        await store.readings.commit(late)
    assert await commit_readings(store.readings) == []
    assert await store.connections.get(active.id) == moved


async def test_fenced_outweighs_outdated(store: Store) -> None:
    active = await commit_connection(store)
    commit = await readings_commit_of(store.readings, [reading(1)])
    await store.readings.commit(await readings_commit_of(store.readings, [reading(2)]))
    with pytest.raises(Fenced):
        await store.readings.commit(
            replaced_fields(
                commit, connection_update=ConnectionUpdate(replaced_fields(active, generation="second"), active)
            )
        )


@pytest.mark.parametrize("state", [ConnectionState.ACTIVE, ConnectionState.PAUSED])
async def test_a_push_is_stored_whether_or_not_the_connection_was_paused_meanwhile(
    store: Store, state: ConnectionState
) -> None:
    active = await commit_connection(store)
    if state is ConnectionState.PAUSED:
        await store.connections.update(active, replaced_fields(active, state=state))
    commit = replaced_fields(
        await readings_commit_of(store.readings, [reading(1)]), connection_update=ConnectionUpdate(active, active)
    )
    await store.readings.commit(commit)
    assert len(await commit_readings(store.readings)) == 1


@pytest.mark.parametrize("change", [{"state": ConnectionState.DISCONNECTED}, {"generation": "second"}])
async def test_a_push_for_what_is_no_longer_connected_is_fenced(store: Store, change: dict[str, str]) -> None:
    active = await commit_connection(store)
    await store.connections.update(active, replaced_fields(active, **change))
    commit = replaced_fields(
        await readings_commit_of(store.readings, [reading(1)]), connection_update=ConnectionUpdate(active, active)
    )
    with pytest.raises(Fenced):
        await store.readings.commit(commit)
    assert await commit_readings(store.readings) == []


async def test_a_push_is_not_stopped_by_another_owner(store: Store) -> None:
    active = await commit_connection(store)
    await store.connections.update(active, replaced_fields(active, epoch=7))
    await store.readings.commit(
        replaced_fields(
            await readings_commit_of(store.readings, [reading(1)]), connection_update=ConnectionUpdate(active, active)
        )
    )
    assert len(await commit_readings(store.readings)) == 1


async def test_a_commit_with_nothing_to_write_still_holds_to_its_condition(store: Store) -> None:
    active = await commit_connection(store)
    head = await store.readings.head(USER)
    assert head is not None
    idle = Commit(before=head, head=head, connection_update=ConnectionUpdate(active, active))
    await store.readings.commit(idle)
    await store.connections.update(active, replaced_fields(active, generation="second"))
    with pytest.raises(Fenced):
        await store.readings.commit(idle)


def quarantine_page(version: int, *records: QuarantinedRecord, start: bool = True) -> QuarantinePage:
    return QuarantinePage(segment_start(NOON) if start else 15, version, records)


async def test_quarantined_records_are_stored_by_segment_and_apart_where_their_time_is_unknown(store: Store) -> None:
    await commit_connection(store)
    head = await store.readings.head(USER)
    assert head is not None
    one, two = (QuarantinedRecord("no_value", digest, b"sealed", NOON) for digest in (b"1", b"2"))
    pages = (quarantine_page(1, one, two), quarantine_page(1, one, start=False))
    await store.readings.commit(Commit(before=head, head=head, quarantine_pages=pages))
    found = await store.readings.read_pages(USER, [segment_start(NOON), 0, 15, NOON + timedelta(days=9)])
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
        await store.readings.commit(Commit(before=head, head=head, quarantine_pages=(each,)))
    await store.readings.commit(await readings_commit_of(store.readings, [reading(0)]))
    assert [each async for each in store.readings.iter_pages(USER)] == pages


async def test_a_record_kept_before_it_said_whose_it_is_is_read(store: Store, table: Table) -> None:
    await commit_connection(store)
    records = msgspec.msgpack.encode([["no_value", b"1", b"sealed", 1_000]])
    await table.write(Put(keys.quarantine(USER, 0), {"v": 1, "version": 1, "records": records}))
    (found,) = [each async for each in store.readings.iter_pages(USER)]
    assert [(each.reason, each.provider) for each in found.records] == [("no_value", "")]


@pytest.mark.parametrize("version", [1, 3])
async def test_a_quarantine_page_is_written_only_over_the_version_before_it(store: Store, version: int) -> None:
    await commit_connection(store)
    head = await store.readings.head(USER)
    assert head is not None
    for each in (1, 2, 3):
        await store.readings.commit(Commit(before=head, head=head, quarantine_pages=(quarantine_page(each),)))
    with pytest.raises(StaleRead):
        await store.readings.commit(Commit(before=head, head=head, quarantine_pages=(quarantine_page(version),)))


async def test_a_window_brings_the_segments_it_touches_and_no_other(store: Store) -> None:
    await commit_connection(store)
    for day in range(4):
        await store.readings.commit(
            await readings_commit_of(store.readings, [reading(n + 288 * day) for n in (0, EVENING)])
        )
    start = segment_start(NOON) + timedelta(days=1)

    async def touched(start_after: timedelta, end_after: timedelta) -> list[StoredReading]:
        window = Window(start + start_after, start + end_after)
        return [
            each for packed in [p async for p in store.readings.iter_packed(USER, window)] for each in unpack(packed)
        ]

    hours = timedelta(hours=6)
    assert [
        len(await touched(*edges))
        for edges in (
            (timedelta(0), hours),
            (timedelta(0), hours + timedelta(microseconds=1)),
            (-timedelta(microseconds=1), hours),
            (hours - timedelta(seconds=1), 2 * hours),
            (2 * hours, 4 * hours),
        )
    ] == [1, 2, 1, 2, 0]


async def test_years_before_1000_sort_before_the_others(store: Store) -> None:
    await commit_connection(store)
    old = replaced_fields(reading(0), measured_at=NOON.replace(year=812))
    await store.readings.commit(await readings_commit_of(store.readings, [old]))
    await store.readings.commit(await readings_commit_of(store.readings, [reading(0)]))
    window = Window(NOON.replace(year=1), NOON.replace(year=9998))
    packed = [each async for each in store.readings.iter_packed(USER, window)]
    assert [unpack(each)[0].reading for each in packed] == [old, reading(0)]


async def test_an_item_of_a_newer_version_is_read_but_never_written_over(store: Store, table: Table) -> None:
    await commit_connection(store)
    await store.readings.commit(await readings_commit_of(store.readings, [reading(1)]))
    segment = keys.segment(USER, segment_start(NOON))
    for key in (keys.head(USER), segment, keys.connection(connection().id)):
        found = await table.get(key)
        assert found is not None
        newer = found | {"v": 2, "added_later": "kept"}
        await table.write(Put(key, newer))
        commit = await readings_commit_of(store.readings, [reading(1), reading(2)])
        step = ConnectionUpdate(connection(), connection(watermark=NOON)) if key[1].startswith("connection") else None
        with pytest.raises(StoreError, match="newer version"):
            await store.readings.commit(replaced_fields(commit, connection_update=step))
        assert await table.get(key) == newer
        await table.write(Put(key, found))


async def test_latest_costs_one_read(table: Table) -> None:
    counting = CountingTable(table)
    store = Store(counting, SetClock())
    await commit_connection(store)
    before = counting.asked
    await store.readings.head(USER)
    assert [now - then for now, then in zip(counting.asked, before, strict=True)] == [1, 0, 0]


async def test_a_poll_that_brings_readings_costs_one_read_for_the_store_and_one_transaction(table: Table) -> None:
    counting = CountingTable(table)
    store = Store(counting, SetClock())
    active = await commit_connection(store)
    before = counting.asked
    commit = await readings_commit_of(store.readings, [reading(n) for n in range(60, 63)])
    await store.readings.commit(
        replaced_fields(commit, connection_update=ConnectionUpdate(active, replaced_fields(active, watermark=NOON)))
    )
    assert [now - then for now, then in zip(counting.asked, before, strict=True)] == [1, 0, 1]
