"""Shared row of a call budget: replaced only by a process that has read its current version."""

import pytest

from bg_ingest.domain.call_budget import BudgetKey, BudgetRow
from bg_ingest.errors import StaleRead, StoreError
from bg_ingest.ports.table import Put, Table
from bg_ingest.store import Store, keys

BUDGET_KEY = BudgetKey("acme", "our-app", "us")
FIRST = BudgetRow(theoretical_arrival=1_772_452_800_000_000)
PAUSED = BudgetRow(1_772_452_801_000_000, 1_772_452_800_500_000, 1_772_452_830_500_000, 2)


async def test_a_row_is_read_back_as_it_was_spent(store: Store) -> None:
    assert await store.budgets.get(BUDGET_KEY) is None
    await store.budgets.replace(BUDGET_KEY, None, FIRST)
    assert await store.budgets.get(BUDGET_KEY) == FIRST
    await store.budgets.replace(BUDGET_KEY, FIRST, PAUSED)
    assert await store.budgets.get(BUDGET_KEY) == PAUSED


async def test_of_two_who_read_the_same_one_spends(store: Store) -> None:
    await store.budgets.replace(BUDGET_KEY, None, FIRST)
    with pytest.raises(StaleRead):
        await store.budgets.replace(BUDGET_KEY, None, PAUSED)
    await store.budgets.replace(BUDGET_KEY, FIRST, PAUSED)
    with pytest.raises(StaleRead):
        await store.budgets.replace(BUDGET_KEY, FIRST, BudgetRow(FIRST.theoretical_arrival + 1))
    assert await store.budgets.get(BUDGET_KEY) == PAUSED


@pytest.mark.parametrize(
    "read",
    [
        BudgetRow(PAUSED.theoretical_arrival - 1, PAUSED.at, PAUSED.paused_until, 2),
        BudgetRow(PAUSED.theoretical_arrival, PAUSED.at - 1, PAUSED.paused_until, 2),
        BudgetRow(PAUSED.theoretical_arrival, PAUSED.at, PAUSED.paused_until - 1, 2),
        BudgetRow(PAUSED.theoretical_arrival, PAUSED.at, PAUSED.paused_until, 1),
    ],
)
async def test_a_row_read_with_any_other_value_is_not_replaced(store: Store, read: BudgetRow) -> None:
    await store.budgets.replace(BUDGET_KEY, None, PAUSED)
    with pytest.raises(StaleRead):
        await store.budgets.replace(BUDGET_KEY, read, FIRST)


async def test_each_app_and_region_has_its_own(store: Store) -> None:
    others = [
        BudgetKey("other", "our-app", "us"),
        BudgetKey("acme", "their-app", "us"),
        BudgetKey("acme", "our-app", "ou"),
    ]
    await store.budgets.replace(BUDGET_KEY, None, FIRST)
    for other in others:
        assert await store.budgets.get(other) is None


async def test_a_row_of_a_newer_version_is_not_overwritten(store: Store, table: Table) -> None:
    await store.budgets.replace(BUDGET_KEY, None, FIRST)
    found = await table.get(keys.budget(BUDGET_KEY))
    assert found is not None
    await table.write(Put(keys.budget(BUDGET_KEY), found | {"v": 2}))
    for read in (None, FIRST):
        with pytest.raises(StoreError, match="newer version"):
            await store.budgets.replace(BUDGET_KEY, read, PAUSED)
