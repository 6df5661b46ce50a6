"""The store over one table, and the agreement on how that table is laid out."""

from contextlib import aclosing

from bg_ingest.adapters.table import keys
from bg_ingest.adapters.table.api_keys import TableKeys
from bg_ingest.adapters.table.audit import TableTrail
from bg_ingest.adapters.table.budget import TableBudgets
from bg_ingest.adapters.table.connections import TableConnections
from bg_ingest.adapters.table.erasures import TableErasures
from bg_ingest.adapters.table.gaps import TableGaps
from bg_ingest.adapters.table.outbox import TableOutbox
from bg_ingest.adapters.table.owners import Addresses, TableOwnership
from bg_ingest.adapters.table.protocol import Absent, ConditionFailed, Put, Table
from bg_ingest.adapters.table.readings import TableReadings
from bg_ingest.adapters.table.records import VERSION, Found, item
from bg_ingest.adapters.table.rings import TableRings
from bg_ingest.adapters.table.sealed import TableSealedItems
from bg_ingest.adapters.table.states import TableStates
from bg_ingest.adapters.table.webhooks import TableWebhooks
from bg_ingest.domain.ids import SHARDS
from bg_ingest.domain.segments import SEGMENT_HOURS
from bg_ingest.errors import StoreError
from bg_ingest.ports import (
    Budgets,
    Clock,
    Connections,
    Erasures,
    Gaps,
    Keys,
    Outbox,
    Ownership,
    Readings,
    Rings,
    SealedItems,
    States,
    Trail,
    Webhooks,
)

LAYOUT = item(shards=SHARDS, shard_hash="blake2b-8", segment_hours=SEGMENT_HOURS)
"""What all who use a table must agree on: keys would not be found again otherwise."""


class TableStore:
    """The port Store."""

    def __init__(self, table: Table, clock: Clock) -> None:
        addresses = Addresses()
        rings = TableRings(table, clock, addresses)
        self.readings: Readings = TableReadings(table, rings)
        self.gaps: Gaps = TableGaps(table)
        self.connections: Connections = TableConnections(table, clock, rings)
        self.states: States = TableStates(table)
        self.webhooks: Webhooks = TableWebhooks(table)
        self.outbox: Outbox = TableOutbox(table)
        self.ownership: Ownership = TableOwnership(table, addresses)
        self.rings: Rings = rings
        self.keys: Keys = TableKeys(table)
        self.sealed: SealedItems = TableSealedItems(table)
        self.trail: Trail = TableTrail(table)
        self.erasures: Erasures = TableErasures(table, rings)
        self.budgets: Budgets = TableBudgets(table)


async def agree(table: Table) -> None:
    """Write the layout into a new table; refuse one that is laid out otherwise, in one sentence."""
    found = await table.get(keys.META)
    if found is None:
        try:
            await table.write(Put(keys.META, LAYOUT, (Absent(),)))
        except ConditionFailed:  # another process did, at the same time
            found = await table.get(keys.META)
    if found is not None:
        _compare(found)


async def forget_owners(table: Table) -> None:
    """Take all processes for dead: who has a table to itself knows that the others are gone."""
    async with aclosing(table.query(keys.OWNERS, " ", "~")) as pages:
        await table.delete([key async for page in pages for key, _ in page])


def _compare(found: Found) -> None:
    version = found["v"]
    if version != VERSION:
        advice = "update this service" if version > VERSION else "migrate it first"
        raise StoreError(f"The store has schema version {version}, this service writes {VERSION}: {advice}.")
    for name, ours in LAYOUT.items():
        if found.get(name) != ours:
            raise StoreError(f"The store was made with {name} {found.get(name)!r}, not {ours!r}: use another store.")
