"""The table below the store means what DynamoDB would mean, over either transport."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bg_ingest.ports.table import (
    Absent,
    AtMost,
    Check,
    Condition,
    ConditionFailed,
    Delete,
    Either,
    Equals,
    Exists,
    Item,
    Key,
    Missing,
    OneOf,
    Put,
    Table,
    Update,
    Write,
)
from bg_ingest.store.keys import META
from tests.contracts.conftest import STORES, open_contract_table
from tests.fakes.clock import SetClock

KEY, OTHER = ("pk", "a"), ("pk", "b")
ITEM: Item = {"v": 1, "text": "t", "number": 3, "raw": b"\x00\xff", "yes": True}

TRUE_CONDITIONS: list[Condition] = [
    Exists(),
    Equals("text", "t"),
    Equals("raw", b"\x00\xff"),
    Equals("yes", True),
    Missing("other"),
    AtMost("number", 3),
    OneOf("text", ("s", "t")),
    Either((Absent(), Equals("number", 3))),
]
FALSE_CONDITIONS: list[Condition] = [
    Absent(),
    Equals("text", "T"),
    Equals("other", "t"),
    Equals("number", "3"),
    Equals("yes", 1),
    Missing("text"),
    AtMost("number", 2),
    AtMost("other", 9),
    OneOf("text", ("r", "s")),
    OneOf("other", ("t",)),
    Either((Absent(), Equals("number", 4))),
]
TRUE_WITHOUT_ITEM: list[Condition] = [Absent(), Missing("text"), Either((Exists(), Absent()))]


@pytest.fixture(params=[*STORES, pytest.param("dynamodb_by_aioboto3", marks=pytest.mark.integration)])
async def table(request: pytest.FixtureRequest, tmp_path: Path, clock: SetClock) -> AsyncIterator[Table]:
    async with open_contract_table(request, tmp_path, clock) as opened:
        yield opened


async def test_a_scan_finds_each_item_once_in_one_of_its_parts(table: Table) -> None:
    written = {(f"pk#{number}", f"{kind}#{number}") for number in range(40) for kind in ("grant", "change")}
    for key in written:
        await table.write(Put(key, ITEM))
    for parts in (1, 3):
        found = [each for part in range(parts) async for page in table.scan(part, parts) for each in page]
        assert sorted(key for key, _ in found if key != META) == sorted(written)
        assert all(item == ITEM for key, item in found if key != META)
    some = [key async for page in table.scan(0, 1, ("grant#", "head")) for key, _ in page]
    assert sorted(some) == sorted(key for key in written if key[1].startswith("grant#"))


async def test_a_scan_of_more_than_a_page_is_whole(table: Table) -> None:
    await table.transact([Put(("pk", f"{number:04}"), ITEM) for number in range(100)])
    for start in range(1, 12):
        await table.transact([Put((f"pk{start}", f"{number:04}"), ITEM) for number in range(100)])
    found = [key async for page in table.scan(0, 1) for key, _ in page if key != META]
    assert (len(found), len(set(found))) == (1_200, 1_200)


async def test_what_is_put_is_read_back_with_its_types(table: Table) -> None:
    await table.write(Put(KEY, ITEM))
    found = await table.get(KEY)
    assert found == ITEM
    assert found is not None
    assert [type(value) for value in found.values()] == [type(value) for value in ITEM.values()]


@pytest.mark.parametrize("condition", TRUE_CONDITIONS, ids=repr)
async def test_a_condition_that_holds_lets_the_write_through(table: Table, condition: Condition) -> None:
    await table.write(Put(KEY, ITEM))
    await table.write(Update(KEY, {"number": 4}, ("text",), (condition,)))
    assert await table.get(KEY) == {"v": 1, "number": 4, "raw": b"\x00\xff", "yes": True}


@pytest.mark.parametrize("condition", FALSE_CONDITIONS, ids=repr)
async def test_a_condition_that_does_not_hold_stops_the_write_and_shows_what_it_met(
    table: Table, condition: Condition
) -> None:
    await table.write(Put(KEY, ITEM))
    for write in (Put(KEY, {"v": 9}, (Exists(), condition)), Delete(KEY, (condition,))):
        with pytest.raises(ConditionFailed) as failed:
            await table.write(write)
        assert failed.value.current == {0: ITEM}
    assert await table.get(KEY) == ITEM


@pytest.mark.parametrize("condition", TRUE_WITHOUT_ITEM, ids=repr)
async def test_these_conditions_hold_where_there_is_no_item(table: Table, condition: Condition) -> None:
    await table.transact([Check(KEY, (condition,)), Put(OTHER, ITEM)])
    assert await table.get(OTHER) == ITEM


@pytest.mark.parametrize(
    "condition", [each for each in TRUE_CONDITIONS if each not in (Missing("other"), TRUE_CONDITIONS[-1])], ids=repr
)
async def test_the_others_do_not(table: Table, condition: Condition) -> None:
    with pytest.raises(ConditionFailed) as failed:
        await table.write(Put(KEY, ITEM, (condition,)))
    assert failed.value.current == {0: None}
    assert await table.get(KEY) is None


async def test_a_transaction_writes_nothing_when_one_condition_fails_and_names_all_that_do(table: Table) -> None:
    await table.write(Put(KEY, ITEM))
    third = ("pk", "c")
    with pytest.raises(ConditionFailed) as failed:
        await table.transact([Put(KEY, {"v": 2}, (Absent(),)), Put(OTHER, {"v": 2}), Check(third, (Exists(),))])
    assert failed.value.current == {0: ITEM, 2: None}
    assert await table.batch_get([KEY, OTHER, third]) == {KEY: ITEM}


@pytest.mark.parametrize(
    "table", ["sqlite-memory", "sqlite-file"], indirect=True
)  # MessagePack integers have at most 64 bits
async def test_a_transaction_that_breaks_half_way_writes_nothing(table: Table) -> None:
    with pytest.raises(OverflowError):
        await table.transact([Put(KEY, ITEM), Put(OTHER, {"v": 2**64})])
    assert await table.batch_get([KEY, OTHER]) == {}
    await table.write(Put(OTHER, ITEM))
    assert await table.get(OTHER) == ITEM


async def test_a_transaction_takes_no_key_twice_and_no_more_than_a_hundred_writes(table: Table) -> None:
    many: list[Write] = [Put(("pk", f"{number}"), ITEM) for number in range(101)]
    twice: list[Write] = [Put(KEY, ITEM), Delete(KEY)]
    for writes in (twice, many):
        with pytest.raises(ValueError, match="at most 100"):
            await table.transact(writes)
    await table.transact(many[:100])
    assert len(await table.batch_get([each.key for each in many])) == 100


async def test_a_batch_read_once_shows_which_items_do_not_exist(table: Table) -> None:
    await table.write(Put(KEY, ITEM))
    assert await table.batch_get_once([KEY, OTHER]) == {KEY: ITEM, OTHER: None}


async def test_a_descending_query_yields_the_same_items_in_the_opposite_order(table: Table) -> None:
    for number in range(5):
        await table.write(Put(("pk", f"{number}"), {"v": number}))
    pages = [page async for page in table.query("pk", "1", "4", page=3, descending=True)]
    assert [[item["v"] for _, item in page] for page in pages] == [[4, 3, 2], [1]]
    assert [page async for page in table.query("pk", "5", "9", descending=True)] == []


async def test_an_update_may_create_where_no_condition_forbids_it(table: Table) -> None:
    await table.write(Update(KEY, {"v": 1}, ("text",), ()))
    assert await table.get(KEY) == {"v": 1}


@pytest.mark.parametrize("page", [1, 2, 3, 100])
async def test_a_query_is_ascending_bounded_on_both_ends_and_paged(table: Table, page: int) -> None:
    sks = ["a", "b#", "b#1", "b#10", "b#2", "b$", "c"]
    for sk in reversed(sks):
        await table.write(Put(("pk", sk), {"v": 1, "name": sk}))
    await table.write(Put(("other", "b#1"), ITEM))
    pages = [each async for each in table.query("pk", "b#", "b$", page=page, attributes=["name"])]
    assert [key for items in pages for key, _ in items] == [("pk", sk) for sk in sks[1:6]]
    assert all(item["name"] == key[1] for items in pages for key, item in items)
    assert max(map(len, pages)) == min(page, 5)


async def test_a_query_that_finds_nothing_has_no_pages(table: Table) -> None:
    assert [each async for each in table.query("pk", "a", "z")] == []


async def test_many_are_deleted_whether_they_are_there_or_not(table: Table) -> None:
    keys: list[Key] = [("pk", f"{number}") for number in range(150)]
    for key in keys[::2]:
        await table.write(Put(key, ITEM))
    await table.delete(keys[:-2])
    assert list(await table.batch_get(keys)) == [keys[-2]]
