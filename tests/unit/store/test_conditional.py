"""Conditional writes: errors of failed conditions, and the conditions that describe an item as read."""

from collections.abc import AsyncIterator

import pytest

from bg_ingest.adapters.sqlite import open_table
from bg_ingest.errors import Fenced, StaleRead, StoreError
from bg_ingest.ports.table import Absent, Check, Equals, Exists, Item, Missing, Put, Table
from bg_ingest.store.conditional import (
    ConditionalWrite,
    diff_items,
    try_write,
    unchanged_condition,
    version_conditions,
    write_all,
    write_if_current,
)
from bg_ingest.store.items import VERSION, VERSION_OK, build_item
from tests.fakes.clock import SetClock

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
