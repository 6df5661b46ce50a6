"""Shared parts of items: schema version, conditional writes and their errors, instants, packed gaps and ranges."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from bg_ingest.adapters.sqlite import open_table
from bg_ingest.domain.gaps import Cause, Gap
from bg_ingest.domain.segment_codec import to_epoch_ms
from bg_ingest.errors import Fenced, StaleRead, StoreError
from bg_ingest.ports.table import Absent, Check, Equals, Exists, Item, Missing, Put, Table
from bg_ingest.store.items import (
    VERSION,
    VERSION_OK,
    ConditionalWrite,
    build_item,
    decode_gap,
    diff_items,
    encode_gap,
    from_epoch_ms,
    is_newer,
    optional_epoch_ms,
    optional_instant,
    read_range,
    try_write,
    unchanged_condition,
    version_conditions,
    write_all,
    write_if_current,
)
from tests.fakes.clock import NOON, SetClock
from tests.harness.sample_values import replaced_fields

OPEN = Gap(after=NOON, before=None, cadence_seconds=300, cause=Cause.THROTTLED, opened_at=NOON + timedelta(hours=2))
HEALED = replaced_fields(OPEN, before=NOON + timedelta(hours=1), healed_at=NOON + timedelta(milliseconds=1_234))


def test_an_item_has_the_version_and_the_attributes_with_a_value() -> None:
    assert build_item(a="text", b=None, c=0, d=False) == {"v": VERSION, "a": "text", "c": 0, "d": False}


def test_only_a_greater_version_is_newer() -> None:
    assert is_newer({"v": VERSION + 1})
    assert not is_newer({"v": VERSION})
    assert not is_newer(None)


def test_instants_are_read_back_to_the_millisecond() -> None:
    instant = NOON + timedelta(milliseconds=1)
    assert from_epoch_ms(to_epoch_ms(instant)) == instant
    assert optional_instant(optional_epoch_ms(instant)) == instant
    assert optional_instant(optional_epoch_ms(None)) is None


@pytest.mark.parametrize("gap", [OPEN, HEALED])
def test_a_gap_is_read_back_also_from_a_longer_array(gap: Gap) -> None:
    assert decode_gap(encode_gap(gap)) == gap
    assert decode_gap([*encode_gap(gap), "later element"]) == gap


async def test_a_range_is_read_over_several_pages() -> None:
    async with open_table(None, SetClock()) as table:
        for number in range(5):
            await table.write(Put(("pk", str(number)), build_item(n=number)))
        rows = await read_range(table, "pk", "1", "3", page=2)
    assert [(key, item["n"]) for key, item in rows] == [(("pk", str(number)), number) for number in (1, 2, 3)]


KEY, OTHER = ("pk", "one"), ("pk", "two")


@pytest.fixture
async def table() -> AsyncIterator[Table]:
    async with open_table(None, SetClock()) as opened:
        yield opened


def new(key: tuple[str, str], error: type[StaleRead | Fenced]) -> ConditionalWrite:
    return ConditionalWrite(Put(key, build_item(), (Absent(),)), error)


async def test_fenced_outweighs_a_stale_read(table: Table) -> None:
    await table.write(Put(KEY, build_item()))
    with pytest.raises(StaleRead):
        await write_all(table, [new(KEY, StaleRead), new(OTHER, Fenced)])
    await table.write(Put(OTHER, build_item()))
    with pytest.raises(Fenced):
        await write_all(table, [new(KEY, StaleRead), new(OTHER, Fenced)])


async def test_nothing_is_written_if_one_condition_fails(table: Table) -> None:
    await table.write(Put(KEY, build_item()))
    with pytest.raises(StaleRead):
        await write_all(table, [new(KEY, StaleRead), new(OTHER, StaleRead)])
    assert await table.get(OTHER) is None


async def test_a_single_check_is_evaluated_and_no_write_at_all_succeeds(table: Table) -> None:
    await write_all(table, [])
    with pytest.raises(Fenced):
        await write_all(table, [ConditionalWrite(Check(KEY, (Exists(),)), Fenced)])


async def test_an_item_of_a_newer_version_is_an_error_of_its_own(table: Table) -> None:
    await table.write(Put(KEY, {"v": VERSION + 1}))
    for write in (write_if_current, try_write):
        with pytest.raises(StoreError, match="newer version") as raised:
            await write(table, Put(KEY, build_item(), (VERSION_OK,)))
        assert not isinstance(raised.value, StaleRead)


async def test_a_try_reports_whether_it_wrote(table: Table) -> None:
    assert await try_write(table, Put(KEY, build_item(n=1), (Absent(),)))
    assert not await try_write(table, Put(KEY, build_item(n=2), (Absent(),)))
    assert await table.get(KEY) == build_item(n=1)


def test_the_difference_sets_changed_attributes_and_removes_missing_ones() -> None:
    before: Item = {"same": 1, "changed": 1, "removed": 1}
    assert diff_items(before, {"same": 1, "changed": 2, "new": 3}) == ({"changed": 2, "new": 3}, ("removed",))


def test_an_attribute_is_unchanged_if_it_is_equal_or_still_missing() -> None:
    assert unchanged_condition({"a": 1}, "a") == Equals("a", 1)
    assert unchanged_condition({"a": 1}, "b") == Missing("b")


def test_a_counted_version_replaces_the_one_before_it() -> None:
    assert version_conditions(1) == (Absent(),)
    assert version_conditions(3) == (Equals("version", 2), VERSION_OK)
