"""The port Erasures over a table.

A row of its own stands from an erasure's transaction until nothing is left. Every deletion holds to that row, and a
connect to its absence: so a process that comes late, with a page it read long ago, deletes nothing of a new life.
"""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, suppress

import msgspec

from bg_ingest.adapters.table import keys
from bg_ingest.adapters.table.commits import head_as_read
from bg_ingest.adapters.table.connection_records import WITH_GRANT
from bg_ingest.adapters.table.guarded import Guarded, perform
from bg_ingest.adapters.table.outbox import FIRST, LAST
from bg_ingest.adapters.table.protocol import (
    Absent,
    Check,
    ConditionFailed,
    Delete,
    Either,
    Equals,
    Exists,
    Item,
    Key,
    Put,
    Table,
    Write,
)
from bg_ingest.adapters.table.records import FREE, OURS, change_item, head_item, item, packed_of
from bg_ingest.adapters.table.rings import TableRings
from bg_ingest.domain.columns import unpack
from bg_ingest.domain.connections import Connection
from bg_ingest.domain.erasure import Erased, Erasure, Removed
from bg_ingest.domain.ids import UserId, shard_of
from bg_ingest.domain.leases import NOBODY
from bg_ingest.errors import Outdated
from bg_ingest.ports import Wish

AT_ONCE = 49
"""Rows deleted in one transaction: each may bring another with it, and the check makes one more."""

COUNTED = {"change": "changes", "connection": "connections", "grant": "grants", "gap": "gaps"}
"""What one row of a kind counts as; a kind that is not known here is among the others."""


class TableErasures:
    def __init__(self, table: Table, rings: TableRings) -> None:
        self._table = table
        self._rings = rings

    async def begin(self, erasure: Erasure) -> Removed:
        ring = self._rings.tell(erasure.tombstone.user)
        writes = [*_begun(erasure), *([ring] if ring else [])]
        await perform(self._table, [Guarded(write, Outdated) for write in writes])
        held = [each for each in erasure.connections if each.state in WITH_GRANT]
        return Removed(connections=len(erasure.connections), grants=len(held))

    async def left_of(self, user: UserId) -> Erased | None:
        found = await self._table.get(keys.erasure(user))
        return _erased(user, found) if found else None

    async def unfinished(self) -> AsyncGenerator[Erased]:
        async with aclosing(self._table.query(keys.ERASURES, FIRST, LAST)) as pages:
            async for page in pages:
                for key, found in page:
                    yield _erased(keys.parse_erasure(key), found)

    async def clear(self, erased: Erased) -> Removed | None:
        rows = await self._waiting(erased) or await self._rest(erased) or await self._looks(erased.user)
        unwanted = [Delete(each) for key, _ in rows for each in _with(key)]
        marker, stands = keys.erasure(erased.user), Equals("change", erased.change)
        try:
            if not unwanted:
                await self._table.write(Delete(marker, (stands,)))
                return None
            await self._table.transact([Check(marker, (stands,)), *unwanted])
        except ConditionFailed:  # another process was faster, or the user was erased once more
            return None
        return _counted(rows)

    async def _waiting(self, erased: Erased) -> list[tuple[Key, Item]]:
        """What was not told goes first: a change without its row in the outbox is missed by nobody."""
        pk, first = keys.outbox(shard_of(erased.user), erased.user, 0)
        _, last = keys.outbox(shard_of(erased.user), erased.user, erased.change - 1)
        async with aclosing(self._table.query(pk, first, last, page=AT_ONCE)) as pages:
            return await anext(pages, [])

    async def _rest(self, erased: Erased) -> list[tuple[Key, Item]]:
        kept = {keys.head(erased.user), keys.change(erased.user, erased.change)}
        async with aclosing(self._table.query(keys.user_pk(erased.user), FIRST, LAST, page=AT_ONCE)) as pages:
            async for page in pages:
                if rows := [(key, found) for key, found in page if key not in kept]:
                    return rows
        return []

    async def _looks(self, user: UserId) -> list[tuple[Key, Item]]:
        """Rings for a look that nobody heard; what was sent to a process that is gone by now expires in an hour."""
        lease = await self._table.get(keys.shard(shard_of(user))) or {}
        found: list[tuple[Key, Item]] = []
        for address in {NOBODY, *(str(lease[name]) for name in ("owner", "previous") if name in lease)}:
            pk, low, high = keys.rings_pk(address), keys.RINGS, keys.beyond(keys.RINGS)
            async with aclosing(self._table.query(pk, low, high)) as pages:
                found += [row async for page in pages for row in page if _is_look(row, user)]
        return found[:AT_ONCE]


def _is_look(row: tuple[Key, Item], user: UserId) -> bool:
    """What asks to tell stays: it is about the erasure's own event."""
    _, connection = keys.parse_ring(row[0])
    return connection.user == user and row[1]["wish"] == Wish.LOOK


def _begun(erasure: Erasure) -> Iterator[Write]:
    user, change = erasure.tombstone.user, erasure.change
    as_it_was = (Absent(),) if erasure.before is None else (Exists(), OURS, *head_as_read(erasure.before))
    yield Put(keys.head(user), head_item(erasure.tombstone), as_it_was)
    yield Put(keys.change(user, change.number), change_item(change), (Absent(),))
    yield Put(keys.outbox(shard_of(user), user, change.number), item())
    yield Put(keys.erasure(user), item(change=change.number), (FREE,))
    for connection in erasure.connections:
        yield from _of_connection(connection)


def _of_connection(connection: Connection) -> Iterator[Write]:
    yield Delete(keys.connection(connection.id))
    yield Delete(keys.grant(connection.id))
    yield Delete(keys.directory(connection.id))
    held = keys.account_of(connection)
    if held and connection.state in WITH_GRANT:
        yield Delete(held, (Either((Absent(), Equals("user", connection.id.user))),))


def _with(key: Key) -> Sequence[Key]:
    """Return the row, and the state that it leads to."""
    state = key[1].removeprefix(keys.STATES)
    return (key, keys.state(state)) if state != key[1] else (key,)


def _erased(user: UserId, found: Item) -> Erased:
    return Erased(user, int(found["change"]))


def _counted(rows: Sequence[tuple[Key, Item]]) -> Removed:
    removed = Removed()
    for (pk, sk), found in rows:
        if pk.startswith("user#"):  # what waited to be told is counted as the change it is
            kind = sk.partition("#")[0]
            name, count = _amount(kind, found)
            removed = removed.plus(msgspec.structs.replace(Removed(), **{name: count}))
    return removed


def _amount(kind: str, found: Item) -> tuple[str, int]:
    with suppress(Exception):  # what cannot be read can still be deleted
        if kind == "readings":
            return "readings", len(unpack(packed_of(found)))
        if kind == "quarantine":
            return "quarantined", len(msgspec.msgpack.decode(bytes(found["records"])))  # type: ignore[arg-type] # bytes
    return COUNTED.get(kind, "others"), 1
