"""Rules of the computed costs."""

import pytest

from bg_ingest.adapters.sqlite import open_table
from bg_ingest.ports.table import Check, Delete, Exists, Put, Scalar, Update
from tests.fakes.clock import SetClock
from tests.long.benchmarks.capacity import MeteredTable, Units, item_size, read_units, write_units

KEY = ("p", "s")
KEY_SIZE = len("pkpsks")


@pytest.mark.parametrize(
    ("value", "size"),
    [("é", 2), (b"abc", 3), (True, 1), (7, 2), (1234, 3), (12345, 4), (1200, 2), (0, 1), (-12, 3)],
)
def test_names_and_values_count(value: Scalar, size: int) -> None:
    assert item_size(KEY, {"name": value}) == KEY_SIZE + len("name") + size


@pytest.mark.parametrize(("size", "units"), [(0, 1), (4096, 1), (4097, 2)])
def test_reads_go_by_4_kilobytes_and_cost_half_where_they_may_be_stale(size: int, units: int) -> None:
    assert read_units(size) == units
    assert read_units(size, consistent=False) == units / 2


@pytest.mark.parametrize(("before", "after", "units"), [(0, 1, 1), (0, 1024, 1), (1025, 10, 2), (10, 2049, 3)])
def test_writes_go_by_the_larger_of_before_and_after(before: int, after: int, units: int) -> None:
    assert write_units(before, after) == units


async def test_a_transaction_costs_twice_and_its_checks_as_much_as_writes() -> None:
    async with open_table(None, SetClock()) as inner:
        table = MeteredTable(inner)
        await table.write(Put(KEY, {"v": 1, "long": bytes(2000)}))
        assert table.used == Units(writes=2)
        await table.transact([Put(("p", "other"), {"v": 1}), Check(KEY, (Exists(),))])
        assert table.used == Units(writes=2 + 2 * (1 + 2))
        assert table.transactions == 1
        await table.write(Update(KEY, {"v": 1}, ("long",), (Exists(),)))  # as large as before
        await table.write(Update(KEY, {"v": 1}, (), (Exists(),)))
        await table.write(Delete(("p", "nothing")))
        assert table.used == Units(writes=8 + 2 + 1 + 1)


async def test_a_batch_is_rounded_up_by_item_and_a_query_by_page() -> None:
    async with open_table(None, SetClock()) as inner:
        for number in range(4):
            await inner.write(Put(("p", f"{number}"), {"v": 1, "long": bytes(1000)}))
        table = MeteredTable(inner)
        await table.batch_get([("p", "0"), ("p", "1"), ("p", "missing")])
        assert table.used == Units(3)
        assert len([items async for items in table.query("p", "0", "9", consistent=False, page=3)]) == 2
        assert table.used == Units(3 + 0.5 + 0.5)


async def test_a_last_page_that_is_full_costs_an_empty_one_more() -> None:
    async with open_table(None, SetClock()) as inner:
        await inner.write(Put(KEY, {"v": 1}))
        table = MeteredTable(inner)
        assert len([items async for items in table.query("p", "a", "z", page=1)]) == 1
        assert table.used == Units(2)
        assert not [items async for items in table.query("nobody", "a", "z")]
        assert table.used == Units(3)


async def test_costs_are_separated_by_kind_of_item() -> None:
    async with open_table(None, SetClock()) as inner:
        table = MeteredTable(inner)
        await table.get(("user#ada", "readings#20260302T12Z"))
        await table.write(Put(("outbox#7", "ada#000000000001"), {"v": 1}))
        assert table.by_kind == {"readings": Units(1), "outbox": Units(writes=1)}
