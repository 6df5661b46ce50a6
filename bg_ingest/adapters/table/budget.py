"""The port Budgets over a table."""

from bg_ingest.adapters.table import keys
from bg_ingest.adapters.table.guarded import Guarded, as_read, perform
from bg_ingest.adapters.table.protocol import Absent, Exists, Item, Put, Table, Update, Write
from bg_ingest.adapters.table.records import FREE, OURS, VERSION, Found, item
from bg_ingest.domain.budget import App, Spending
from bg_ingest.errors import Outdated


class TableBudgets:
    def __init__(self, table: Table) -> None:
        self._table = table

    async def spending(self, app: App) -> Spending | None:
        found: Found | None = await self._table.get(keys.budget(app))
        if found is None:
            return None
        return Spending(found["paid_until"], found["at"], found["paused_until"], found["pauses"])

    async def spend(self, app: App, before: Spending | None, after: Spending) -> None:
        await perform(self._table, [Guarded(_replaced(app, before, after), Outdated)])


def _replaced(app: App, before: Spending | None, after: Spending) -> Write:
    if before is None:
        return Put(keys.budget(app), _item(after), (Absent(), FREE))
    read = _item(before)
    held = (as_read(read, name) for name in read if name != "v")
    return Update(keys.budget(app), _item(after) | {"v": VERSION}, (), (Exists(), OURS, *held))


def _item(row: Spending) -> Item:
    return item(paid_until=row.paid_until, at=row.at, paused_until=row.paused_until, pauses=row.pauses)
