"""The row that all processes share: replaced only by who has read it."""

import pytest

from bg_ingest.adapters.table import keys
from bg_ingest.adapters.table.protocol import Put, Table
from bg_ingest.domain.budget import App, Spending
from bg_ingest.errors import Outdated, StoreError
from bg_ingest.ports import Store

OURS = App("acme", "our-app", "us")
FIRST = Spending(paid_until=1_772_452_800_000_000)
PAUSED = Spending(1_772_452_801_000_000, 1_772_452_800_500_000, 1_772_452_830_500_000, 2)


async def test_a_row_is_read_back_as_it_was_spent(store: Store) -> None:
    assert await store.budgets.spending(OURS) is None
    await store.budgets.spend(OURS, None, FIRST)
    assert await store.budgets.spending(OURS) == FIRST
    await store.budgets.spend(OURS, FIRST, PAUSED)
    assert await store.budgets.spending(OURS) == PAUSED


async def test_of_two_who_read_the_same_one_spends(store: Store) -> None:
    await store.budgets.spend(OURS, None, FIRST)
    with pytest.raises(Outdated):
        await store.budgets.spend(OURS, None, PAUSED)
    await store.budgets.spend(OURS, FIRST, PAUSED)
    with pytest.raises(Outdated):
        await store.budgets.spend(OURS, FIRST, Spending(FIRST.paid_until + 1))
    assert await store.budgets.spending(OURS) == PAUSED


@pytest.mark.parametrize(
    "read",
    [
        Spending(PAUSED.paid_until - 1, PAUSED.at, PAUSED.paused_until, 2),
        Spending(PAUSED.paid_until, PAUSED.at - 1, PAUSED.paused_until, 2),
        Spending(PAUSED.paid_until, PAUSED.at, PAUSED.paused_until - 1, 2),
        Spending(PAUSED.paid_until, PAUSED.at, PAUSED.paused_until, 1),
    ],
)
async def test_whatever_was_read_otherwise_does_not_spend(store: Store, read: Spending) -> None:
    await store.budgets.spend(OURS, None, PAUSED)
    with pytest.raises(Outdated):
        await store.budgets.spend(OURS, read, FIRST)


async def test_each_app_and_region_has_its_own(store: Store) -> None:
    others = [App("other", "our-app", "us"), App("acme", "their-app", "us"), App("acme", "our-app", "ou")]
    await store.budgets.spend(OURS, None, FIRST)
    for other in others:
        assert await store.budgets.spending(other) is None


async def test_a_row_of_a_newer_version_is_not_overwritten(store: Store, table: Table) -> None:
    await store.budgets.spend(OURS, None, FIRST)
    found = await table.get(keys.budget(OURS))
    assert found is not None
    await table.write(Put(keys.budget(OURS), found | {"v": 2}))
    for read in (None, FIRST):
        with pytest.raises(StoreError, match="newer version"):
            await store.budgets.spend(OURS, read, PAUSED)
