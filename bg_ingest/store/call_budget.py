"""Rate-limit rows (GCRA) that all processes share."""

from bg_ingest.domain.call_budget import BudgetKey, BudgetRow
from bg_ingest.ports.table import Absent, Item, Put, SingleWrite
from bg_ingest.store import keys
from bg_ingest.store.items import ItemStore, build_item, unchanged_condition, update_existing, write_if_current


class CallBudgetStore(ItemStore):
    """One row per provider, app and region."""

    async def get(self, key: BudgetKey) -> BudgetRow | None:
        item = await self._table.get(keys.budget(key))
        if item is None:
            return None
        return BudgetRow(item["paid_until"], item["at"], item["paused_until"], item["pauses"])

    async def replace(self, key: BudgetKey, before: BudgetRow | None, after: BudgetRow) -> None:
        """Replace the row if it is unchanged; else StaleRead."""
        await write_if_current(self._table, _replacement(key, before, after))


def _replacement(key: BudgetKey, before: BudgetRow | None, after: BudgetRow) -> SingleWrite:
    if before is None:
        return Put(keys.budget(key), _encode(after), (Absent(),))
    read = _encode(before)
    unchanged = (unchanged_condition(read, name) for name in read if name != "v")
    return update_existing(keys.budget(key), _encode(after), unchanged)


def _encode(row: BudgetRow) -> Item:
    return build_item(paid_until=row.theoretical_arrival, at=row.at, paused_until=row.paused_until, pauses=row.pauses)
