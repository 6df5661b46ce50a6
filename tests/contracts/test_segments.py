"""Segments: replaced only if unchanged since the read, and read by window."""

from datetime import timedelta

import pytest

from bg_ingest.domain.commits import ConnectionUpdate
from bg_ingest.domain.readings import AsSent, StoredReading
from bg_ingest.domain.segment_codec import unpack
from bg_ingest.domain.segments import segment_start
from bg_ingest.domain.windows import Window
from bg_ingest.errors import StaleRead, StoreError
from bg_ingest.ports.table import Put, Table
from bg_ingest.store import Store, keys
from tests.fakes.clock import NOON
from tests.harness.sample_values import (
    USER,
    commit_connection,
    commit_readings,
    connection,
    reading,
    readings_commit_of,
    replaced_fields,
)

EVENING = 72
"""Number of readings after which another segment begins."""


async def test_what_was_committed_is_read_back_as_it_was(store: Store) -> None:
    await commit_connection(store)
    batch = [reading(n, 100 + n, trend="flat", trend_rate_mg_dl_min=n / 10, utc_offset_seconds=3600) for n in range(80)]
    batch[3] = replaced_fields(batch[3], sent=AsSent(6.1, "mmol/L"))
    commit = await readings_commit_of(store.readings, batch)
    await store.commits.write(commit)

    assert [each.reading for each in await commit_readings(store.readings)] == batch
    head, known, _ = await store.readings.read(USER, {segment_start(each.measured_at) for each in batch})
    assert head == commit.head == await store.readings.head(USER)
    assert head.newest is not None
    assert head.newest.reading == batch[-1]
    assert list(known.values()) == list(commit.segments)


async def test_a_commit_over_a_newer_segment_is_outdated_although_the_head_is_as_read(store: Store) -> None:
    """The segment was read before another commit, the head after it."""
    await commit_connection(store)
    await store.commits.write(await readings_commit_of(store.readings, [reading(1)]))
    mine = await readings_commit_of(store.readings, [reading(2)])
    await store.commits.write(await readings_commit_of(store.readings, [reading(3)]))
    late = await readings_commit_of(store.readings, [reading(4)])
    torn = replaced_fields(late, known_segments=mine.known_segments, segments=mine.segments)
    with pytest.raises(StaleRead):
        await store.commits.write(torn)
    assert [each.reading for each in await commit_readings(store.readings)] == [reading(1), reading(3)]


async def test_a_commit_that_believes_a_segment_new_does_not_replace_it(store: Store) -> None:
    await commit_connection(store)
    mine = await readings_commit_of(store.readings, [reading(2)])
    await store.commits.write(await readings_commit_of(store.readings, [reading(3)]))
    late = await readings_commit_of(store.readings, [reading(4)])
    with pytest.raises(StaleRead):
        await store.commits.write(replaced_fields(late, known_segments={}, segments=mine.segments))
    assert [each.reading for each in await commit_readings(store.readings)] == [reading(3)]


async def test_a_window_brings_the_segments_it_touches_and_no_other(store: Store) -> None:
    await commit_connection(store)
    for day in range(4):
        await store.commits.write(
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
    await store.commits.write(await readings_commit_of(store.readings, [old]))
    await store.commits.write(await readings_commit_of(store.readings, [reading(0)]))
    window = Window(NOON.replace(year=1), NOON.replace(year=9998))
    packed = [each async for each in store.readings.iter_packed(USER, window)]
    assert [unpack(each)[0].reading for each in packed] == [old, reading(0)]


async def test_an_item_of_a_newer_version_is_read_but_never_written_over(store: Store, table: Table) -> None:
    await commit_connection(store)
    await store.commits.write(await readings_commit_of(store.readings, [reading(1)]))
    segment = keys.segment(USER, segment_start(NOON))
    for key in (keys.head(USER), segment, keys.connection(connection().id)):
        found = await table.get(key)
        assert found is not None
        newer = found | {"v": 2, "added_later": "kept"}
        await table.write(Put(key, newer))
        commit = await readings_commit_of(store.readings, [reading(1), reading(2)])
        step = ConnectionUpdate(connection(), connection(reason="other")) if key[1].startswith("connection") else None
        with pytest.raises(StoreError, match="newer version"):
            await store.commits.write(replaced_fields(commit, connection_update=step))
        assert await table.get(key) == newer
        await table.write(Put(key, found))
