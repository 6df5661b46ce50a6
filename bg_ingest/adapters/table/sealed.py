"""The port SealedItems over a table."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from bg_ingest.adapters.table import keys
from bg_ingest.adapters.table.connection_records import grant_of
from bg_ingest.adapters.table.guarded import Guarded, perform
from bg_ingest.adapters.table.protocol import (
    Condition,
    Equals,
    Exists,
    Item,
    Key,
    Missing,
    Put,
    SingleWrite,
    Table,
    Update,
)
from bg_ingest.adapters.table.records import OURS, VERSION, shelf_item, shelf_of
from bg_ingest.domain.grants import Grant
from bg_ingest.errors import Outdated
from bg_ingest.ports import AuditKey, SealedItem, Shelved

KINDS = (keys.GRANTS, keys.QUARANTINE, keys.AUDIT_KEY[1])


class TableSealedItems:
    def __init__(self, table: Table) -> None:
        self._table = table

    async def found(self, part: int, parts: int) -> AsyncGenerator[Sequence[SealedItem]]:
        async with aclosing(self._table.scan(part, parts, KINDS)) as pages:
            async for page in pages:
                yield [each for key, item in page if (each := _sealed(key, item))]

    async def again(self, seen: Grant) -> Grant | None:
        found = await self._table.get(keys.grant(seen.id))
        return grant_of(seen.id, found) if found else None

    async def reseal(self, seen: SealedItem, after: SealedItem) -> None:
        await perform(self._table, [Guarded(_write(seen, after), Outdated)])


def _sealed(key: Key, item: Item) -> SealedItem | None:
    if key == keys.AUDIT_KEY:
        sealed = item["sealed"]
        return AuditKey(sealed) if isinstance(sealed, bytes) else None
    user = keys.parse_user(key)
    if user is None:
        return None
    if key[1].startswith(keys.GRANTS):
        return grant_of(keys.parse_connection(user, key), item)
    return Shelved(user, shelf_of(keys.parse_quarantine(key), item))


def _write(seen: SealedItem, after: SealedItem) -> SingleWrite:
    match seen, after:
        case Grant(), Grant():
            as_seen = (Equals("version", seen.version), Equals("generation", seen.generation))
            claim: Condition = Missing("claim") if seen.claim is None else Equals("claim", seen.claim)
            holds = (Exists(), OURS, *as_seen, Equals("sealed", seen.sealed), claim)
            return Update(keys.grant(seen.id), {"sealed": after.sealed, "v": VERSION}, (), holds)
        case Shelved(), Shelved():
            key = keys.quarantine(seen.user, seen.shelf.place)
            return Put(key, shelf_item(after.shelf), (Exists(), OURS, Equals("version", seen.shelf.version)))
        case AuditKey(), AuditKey():
            changed: Item = {"sealed": after.sealed, "v": VERSION}
            return Update(keys.AUDIT_KEY, changed, (), (Exists(), OURS, Equals("sealed", seen.sealed)))
        case _:
            raise ValueError("one thing does not become another")
