"""Store over one table, and the check of the table's layout."""

from bg_ingest.domain.ids import SHARDS
from bg_ingest.domain.segments import SEGMENT_HOURS
from bg_ingest.errors import StoreError
from bg_ingest.ports import Clock
from bg_ingest.ports.table import Absent, ConditionFailed, Put, StoredItem, Table
from bg_ingest.store import keys
from bg_ingest.store.api_keys import ApiKeyStore
from bg_ingest.store.audit import AuditStore
from bg_ingest.store.call_budget import CallBudgetStore
from bg_ingest.store.changes import ChangeLog
from bg_ingest.store.commit import CommitStore
from bg_ingest.store.connections import ConnectionStore
from bg_ingest.store.erasures import ErasureStore
from bg_ingest.store.gaps import GapStore
from bg_ingest.store.grants import GrantStore
from bg_ingest.store.inbox import InboxStore, ShardAddresses
from bg_ingest.store.items import VERSION, build_item, read_range
from bg_ingest.store.outbox import OutboxStore
from bg_ingest.store.ownership import OwnershipStore
from bg_ingest.store.published import PublishedNumbers
from bg_ingest.store.quarantine import QuarantineStore
from bg_ingest.store.sealed_items import SealedItemStore
from bg_ingest.store.segments import ReadingStore
from bg_ingest.store.single_use import OAuthStateStore
from bg_ingest.store.users import UserStore
from bg_ingest.store.webhooks import WebhookStore

LAYOUT = build_item(
    shards=SHARDS, shard_hash="blake2b-8", segment_hours=SEGMENT_HOURS, progress="head", published="head"
)
"""Values that all processes on a table share. With other values, stored keys would not be found again."""


class Store:
    """All stores of one table, by kind of item.

    Every method may raise ``StoreUnavailable``; a write may then have happened or not. Reads are consistent unless
    their docstring says otherwise.
    """

    def __init__(self, table: Table, clock: Clock) -> None:
        addresses = ShardAddresses()
        inbox = InboxStore(table, clock, addresses)
        published = PublishedNumbers()
        self.commits = CommitStore(table, inbox, published)
        self.readings = ReadingStore(table)
        self.users = UserStore(table)
        self.quarantine = QuarantineStore(table)
        self.gaps = GapStore(table)
        self.connections = ConnectionStore(table, clock, inbox)
        self.grants = GrantStore(table)
        self.states = OAuthStateStore(table)
        self.webhooks = WebhookStore(table, self.connections)
        self.changes = ChangeLog(table)
        self.outbox = OutboxStore(table, published)
        self.ownership = OwnershipStore(table, addresses)
        self.inbox = inbox
        self.keys = ApiKeyStore(table)
        self.sealed = SealedItemStore(table)
        self.audit = AuditStore(table)
        self.erasures = ErasureStore(table, inbox)
        self.budgets = CallBudgetStore(table)


async def check_layout(table: Table) -> None:
    """Write the layout into a new table. For another layout, StoreError states reason and remedy in one sentence."""
    item = await table.get(keys.META)
    if item is None:
        try:
            await table.write(Put(keys.META, LAYOUT, (Absent(),)))
        except ConditionFailed:  # another process wrote it at the same time
            item = await table.get(keys.META)
    if item is not None:
        _compare(item)


async def remove_all_owners(table: Table) -> None:
    """Delete the rows of all processes. Only for a table used by one process: all rows belong to ended processes."""
    await table.delete([key for key, _ in await read_range(table, keys.OWNERS, *keys.OWNER_RANGE)])


def _compare(item: StoredItem) -> None:
    version = item["v"]
    if version != VERSION:
        advice = "update this service" if version > VERSION else "migrate it first"
        raise StoreError(f"The store has schema version {version}, this service writes {VERSION}: {advice}.")
    for name, ours in LAYOUT.items():
        if item.get(name) != ours:
            raise StoreError(f"The store was made with {name} {item.get(name)!r}, not {ours!r}: use another store.")
