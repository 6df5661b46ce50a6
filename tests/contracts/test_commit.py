"""Transaction of a commit: all writes or none, and none to an item that changed since it was read."""

import sys
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from bg_ingest.domain.changes import Change, ConnectionChanged, GapOpened, ReadingsRecorded, ReadingsRevised
from bg_ingest.domain.commits import ConnectionUpdate
from bg_ingest.domain.connections import ConnectionState
from bg_ingest.domain.gaps import Cause, Gap, GapMonth, month_start
from bg_ingest.domain.quarantine import QuarantinePage
from bg_ingest.errors import Fenced, StaleRead
from bg_ingest.ports.table import Table
from bg_ingest.store import Store, keys
from tests.fakes.clock import NOON, SetClock
from tests.fakes.counting_table import CountingTable
from tests.harness.sample_values import (
    USER,
    commit_connection,
    commit_readings,
    connection,
    grant,
    reading,
    readings_commit_of,
    replaced_fields,
    unpublished_changes,
    values_of,
)
from tests.harness.table_dump import read_all_items

EVENING = 72
"""Number of readings after which another segment begins."""


async def test_changes_are_numbered_and_wait_in_the_outbox_with_their_data(store: Store) -> None:
    await commit_connection(store)
    await store.commits.write(await readings_commit_of(store.readings, [reading(1, 110)]))
    await store.commits.write(await readings_commit_of(store.readings, [reading(1, 111), reading(2, 120)]))

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
    await store.commits.write(await readings_commit_of(store.readings, [reading(-EVENING)]))
    with pytest.raises(StaleRead):
        await store.commits.write(mine)
    assert [each.reading for each in await commit_readings(store.readings)] == [reading(-EVENING)]
    assert len(await unpublished_changes(store)) == 2


async def test_a_commit_over_a_newer_head_is_outdated_even_when_that_change_has_expired(
    store: Store, table: Table
) -> None:
    await commit_connection(store)
    mine = await readings_commit_of(store.readings, [reading(1)])
    await store.commits.write(await readings_commit_of(store.readings, [reading(-EVENING)]))
    await table.delete([keys.change(USER, 2)])
    with pytest.raises(StaleRead):
        await store.commits.write(mine)


async def test_repeating_a_commit_whose_reply_was_lost_is_outdated(store: Store) -> None:
    await commit_connection(store)
    commit = await readings_commit_of(store.readings, [reading(1)])
    await store.commits.write(commit)
    with pytest.raises(StaleRead):
        await store.commits.write(commit)
    assert len(await unpublished_changes(store)) == 2


async def test_a_published_number_is_never_published_with_other_data(store: Store) -> None:
    await commit_connection(store)
    commit = await readings_commit_of(store.readings, [reading(1)])
    first = (await unpublished_changes(store))[0]
    with pytest.raises(StaleRead):
        await store.commits.write(replaced_fields(commit, changes=(replaced_fields(commit.changes[0], number=1),)))
    assert await unpublished_changes(store) == [first]


async def test_a_connection_that_is_not_as_read_fences_the_whole_commit(store: Store) -> None:
    active = await commit_connection(store)
    moved = replaced_fields(active, watermark=NOON)
    await store.connections.update(active, moved)
    commit = await readings_commit_of(store.readings, [reading(1)])
    late = replaced_fields(
        commit, connection_update=ConnectionUpdate(active, replaced_fields(active, watermark=NOON + timedelta(hours=1)))
    )
    with pytest.raises(Fenced):
        await store.commits.write(late)
    assert await commit_readings(store.readings) == []
    assert await store.connections.get(active.id) == moved


async def test_fenced_outweighs_outdated(store: Store) -> None:
    active = await commit_connection(store)
    commit = await readings_commit_of(store.readings, [reading(1)])
    await store.commits.write(await readings_commit_of(store.readings, [reading(2)]))
    with pytest.raises(Fenced):
        await store.commits.write(
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
    await store.commits.write(commit)
    assert len(await commit_readings(store.readings)) == 1


@pytest.mark.parametrize("change", [{"state": ConnectionState.DISCONNECTED}, {"generation": "second"}])
async def test_a_push_for_what_is_no_longer_connected_is_fenced(store: Store, change: dict[str, str]) -> None:
    active = await commit_connection(store)
    await store.connections.update(active, replaced_fields(active, **change))
    commit = replaced_fields(
        await readings_commit_of(store.readings, [reading(1)]), connection_update=ConnectionUpdate(active, active)
    )
    with pytest.raises(Fenced):
        await store.commits.write(commit)
    assert await commit_readings(store.readings) == []


async def test_a_push_is_not_stopped_by_another_owner(store: Store) -> None:
    active = await commit_connection(store)
    await store.connections.update(active, replaced_fields(active, epoch=7))
    await store.commits.write(
        replaced_fields(
            await readings_commit_of(store.readings, [reading(1)]), connection_update=ConnectionUpdate(active, active)
        )
    )
    assert len(await commit_readings(store.readings)) == 1


async def test_a_poll_that_brings_readings_costs_one_read_for_the_store_and_one_transaction(table: Table) -> None:
    counting = CountingTable(table)
    store = Store(counting, SetClock())
    active = await commit_connection(store)
    before = counting.asked
    commit = await readings_commit_of(store.readings, [reading(n) for n in range(60, 63)])
    await store.commits.write(
        replaced_fields(commit, connection_update=ConnectionUpdate(active, replaced_fields(active, watermark=NOON)))
    )
    assert [now - then for now, then in zip(counting.asked, before, strict=True)] == [1, 0, 1]


async def test_a_poll_that_brings_readings_writes_its_progress_with_the_head(store: Store, table: Table) -> None:
    active = await commit_connection(store)
    commit = await readings_commit_of(store.readings, [reading(1)])
    read = replaced_fields(active, watermark=NOON, last_outcome="read", outcome_at=NOON, epoch=1)
    before = await read_all_items(table)
    await store.commits.write(replaced_fields(commit, connection_update=ConnectionUpdate(active, read)))
    after = await read_all_items(table)
    assert await store.connections.get(active.id) == read
    changed = {key[1].partition("#")[0] for key, item in after.items() if before.get(key) != item}
    assert changed == {"head", "readings", "change"}


async def test_progress_that_is_written_in_between_makes_no_commit_of_another_connection_stale(store: Store) -> None:
    active = await commit_connection(store)
    push = replaced_fields(
        await readings_commit_of(store.readings, [reading(1)]), connection_update=ConnectionUpdate(active, active)
    )
    await store.connections.update(active, replaced_fields(active, last_outcome="nothing_new", epoch=2))
    await store.commits.write(push)
    assert len(await commit_readings(store.readings)) == 1


@pytest.mark.parametrize("later", [{"generation": "second"}, {"epoch": 9}, {"state": ConnectionState.PAUSED}])
async def test_a_commit_by_a_connection_read_before_a_connect_a_hand_over_or_a_pause_is_fenced(
    store: Store, later: dict[str, Any]
) -> None:
    """The head was read afterwards, so that only the conditions of the connection can fail."""
    active = await commit_connection(store, connection(epoch=1))
    await store.connections.update(active, replaced_fields(active, **later))
    commit = await readings_commit_of(store.readings, [reading(1)])
    late = ConnectionUpdate(active, replaced_fields(active, watermark=NOON))
    with pytest.raises(Fenced):
        await store.commits.write(replaced_fields(commit, connection_update=late))
    assert await commit_readings(store.readings) == []


async def test_a_connection_read_half_before_and_half_after_a_connect_is_fenced(store: Store) -> None:
    """A read of row and head is no snapshot: the row may be of the earlier connect, the progress of the later one."""
    first = await commit_connection(store)
    second = replaced_fields(first, generation="second", watermark=NOON)
    await store.connections.update(first, second)
    for torn in (replaced_fields(first, watermark=NOON), replaced_fields(second, watermark=None)):
        commit = await readings_commit_of(store.readings, [reading(1)])
        update = ConnectionUpdate(torn, replaced_fields(torn, watermark=NOON + timedelta(hours=1)))
        with pytest.raises(Fenced):
            await store.commits.write(replaced_fields(commit, connection_update=update))
    assert await store.connections.get(first.id) == second


HELPERS = {"__init__.py", "items.py", "keys.py", "published.py"}
"""Files of the store that define no items."""


async def test_a_commit_visits_the_file_of_each_kind_once(store: Store) -> None:
    """The reader of a commit opens at most 9 files of kinds and returns to none of them."""
    active = await commit_connection(store)
    commit = await readings_commit_of(store.readings, [reading(1)])
    gap = Gap(after=NOON, before=None, cadence_seconds=300, cause=Cause.THROTTLED, opened_at=NOON)
    everything = replaced_fields(
        commit,
        gap_months=(GapMonth("acme", month_start(NOON), 1, (gap,)),),
        quarantine_pages=(QuarantinePage(0, 1, ()),),
        changes=(*commit.changes, Change(USER, 3, NOON, GapOpened("acme", gap))),
        connection_update=ConnectionUpdate(active, replaced_fields(active, epoch=1), request_poll=True),
        grant=grant(),
    )
    entered: list[str] = []

    def record(frame: FrameType, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.parent.name == "store" and path.name not in HELPERS:
            entered.append(path.name)

    sys.setprofile(record)
    try:
        await store.commits.write(everything)
    finally:
        sys.setprofile(None)
    assert [name for name, _ in groupby(name for name in entered if name != "commit.py")] == [
        *("head.py", "segments.py", "quarantine.py", "gaps.py", "changes.py", "connections.py", "grants.py"),
        *("webhooks.py", "inbox.py"),
    ]
