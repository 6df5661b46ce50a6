"""Erasures: one transaction for the tombstone, then deletions in steps.

A marker row exists from this transaction until the last deletion. Every deletion requires that the marker exists, and
every connect requires that the marker is absent. A process that stalls between the read of rows and their deletion
therefore deletes nothing that was written after a reconnect.
"""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, suppress

import msgspec
from msgspec.structs import replace

from bg_ingest.domain.commits import NOTHING_ERASED, Erasure, ErasureCounts, PendingErasure
from bg_ingest.domain.connections import STATES_WITH_GRANT, Connection
from bg_ingest.domain.ids import UserId, shard_of
from bg_ingest.domain.ownership import UNOWNED
from bg_ingest.domain.segment_codec import unpack
from bg_ingest.errors import StaleRead
from bg_ingest.ports.table import (
    Absent,
    Check,
    ConditionFailed,
    Delete,
    Either,
    Equals,
    Key,
    Put,
    StoredItem,
    Table,
    Write,
)
from bg_ingest.store import keys
from bg_ingest.store.changes import change_write, outbox_write
from bg_ingest.store.head import encode_head, head_conditions
from bg_ingest.store.inbox import InboxStore, RequestKind
from bg_ingest.store.items import VERSION_OK_OR_ABSENT, ConditionalWrite, build_item, read_range, write_all

DELETE_BATCH_SIZE = 49
"""Rows deleted by one transaction. Each row causes one or two deletions, the check of the marker is one more write, and
a transaction has at most 100 writes."""

COUNT_FIELDS = {"change": "changes", "connection": "connections", "grant": "grants", "gap": "gaps"}
"""Field of ``ErasureCounts`` by kind of row. Other kinds, except readings and quarantine, count as ``others``."""


class ErasureStore:
    """Erasures of users. After ``begin`` nothing can be written for a user; the remaining rows are deleted in steps."""

    def __init__(self, table: Table, inbox: InboxStore) -> None:
        self._table = table
        self._inbox = inbox

    async def begin(self, erasure: Erasure) -> ErasureCounts:
        """Write the tombstone, its event and the marker, and delete connections and grants, all or nothing.

        StaleRead: the head has changed. TransactionConflict: another transaction was in progress.
        """
        request = await self._inbox.publish_request(erasure.tombstone.user)
        writes = [*_start_writes(erasure), *([request] if request else [])]
        await write_all(self._table, [ConditionalWrite(write, StaleRead) for write in writes])
        with_grant = [connection for connection in erasure.connections if connection.state in STATES_WITH_GRANT]
        return replace(NOTHING_ERASED, connections=len(erasure.connections), grants=len(with_grant))

    async def pending_for(self, user: UserId) -> PendingErasure | None:
        """Return the user's unfinished erasure. Until it is finished, the user cannot connect."""
        item = await self._table.get(keys.erasure(user))
        return PendingErasure(user, int(item["change"])) if item else None

    async def iter_pending(self) -> AsyncGenerator[PendingErasure]:
        """Yield the unfinished erasures of all users."""
        async with aclosing(self._table.query(keys.ERASURES, *keys.SORT_KEY_RANGE)) as pages:
            async for page in pages:
                for key, item in page:
                    yield PendingErasure(keys.parse_erasure(key), int(item["change"]))

    async def delete_next(self, pending: PendingErasure) -> ErasureCounts | None:
        """Delete some of the remaining rows and return their counts; None if the erasure is finished.

        Deletes nothing after a reconnect of the user. TransactionConflict: another process deletes the same rows; call
        again.
        """
        rows = (
            await self._outbox_rows(pending)
            or await self._other_rows(pending)
            or await self._poll_requests(pending.user)
        )
        deletes = [Delete(key) for row_key, _ in rows for key in _with_state(row_key)]
        marker, same_erasure = keys.erasure(pending.user), Equals("change", pending.change)
        try:
            if not deletes:
                await self._table.write(Delete(marker, (same_erasure,)))
                return None
            await self._table.transact([Check(marker, (same_erasure,)), *deletes])
        except ConditionFailed:  # another process finished the erasure, or a later erasure began
            return None
        return _count_rows(rows)

    async def _outbox_rows(self, pending: PendingErasure) -> Sequence[tuple[Key, StoredItem]]:
        """Return outbox rows. They are deleted before the changes, because the relay reads changes by outbox rows."""
        pk, first = keys.outbox(pending.user, 0)
        _, last = keys.outbox(pending.user, pending.change - 1)
        async with aclosing(self._table.query(pk, first, last, page=DELETE_BATCH_SIZE)) as pages:
            return await anext(pages, [])

    async def _other_rows(self, pending: PendingErasure) -> Sequence[tuple[Key, StoredItem]]:
        excluded = {keys.head(pending.user), keys.change(pending.user, pending.change)}
        query = self._table.query(keys.user_pk(pending.user), *keys.SORT_KEY_RANGE, page=DELETE_BATCH_SIZE)
        async with aclosing(query) as pages:
            async for page in pages:
                if rows := [(key, item) for key, item in page if key not in excluded]:
                    return rows
        return []

    async def _poll_requests(self, user: UserId) -> Sequence[tuple[Key, StoredItem]]:
        """Return the user's poll requests to the present and previous owner. Older requests expire within an hour."""
        lease = await self._table.get(keys.shard(shard_of(user))) or {}
        requests: list[tuple[Key, StoredItem]] = []
        for address in {UNOWNED, *(str(lease[name]) for name in ("owner", "previous") if name in lease)}:
            rows = await read_range(self._table, keys.inbox_pk(address), *keys.prefix_range(keys.REQUESTS))
            requests += [row for row in rows if _is_poll_request(row, user)]
        return requests[:DELETE_BATCH_SIZE]


def _is_poll_request(row: tuple[Key, StoredItem], user: UserId) -> bool:
    """Return True if a row requests a poll of the user. Publish requests stay: the erasure's own event needs them."""
    _, connection = keys.parse_request(row[0])
    return connection.user == user and row[1]["wish"] == RequestKind.POLL


def _start_writes(erasure: Erasure) -> Iterator[Write]:
    user, change = erasure.tombstone.user, erasure.change
    yield Put(keys.head(user), encode_head(erasure.tombstone), head_conditions(erasure.before))
    yield change_write(change)
    yield outbox_write(change)
    yield Put(keys.erasure(user), build_item(change=change.number), (VERSION_OK_OR_ABSENT,))
    yield Delete(keys.listed_user(user))
    for connection in erasure.connections:
        yield from _connection_deletes(connection)


def _connection_deletes(connection: Connection) -> Iterator[Write]:
    yield Delete(keys.connection(connection.id))
    yield Delete(keys.grant(connection.id))
    yield Delete(keys.directory(connection.id))
    account_key = keys.connection_account(connection)
    if account_key and connection.state in STATES_WITH_GRANT:
        yield Delete(account_key, (Either((Absent(), Equals("user", connection.id.user))),))


def _with_state(key: Key) -> Sequence[Key]:
    """Return a row's key. For a row that lists an OAuth state, also return the key of the state."""
    state = key[1].removeprefix(keys.STATES)
    return (key, keys.state(state)) if state != key[1] else (key,)


def _count_rows(rows: Sequence[tuple[Key, StoredItem]]) -> ErasureCounts:
    removed = NOTHING_ERASED
    for (pk, sk), item in rows:
        # Not counted: requests, outbox rows (their changes are counted) and used OAuth states.
        if pk.startswith("user#") and "used_at" not in item:
            kind = sk.partition("#")[0]
            name, count = _count_row(kind, item)
            removed = removed.merge(replace(NOTHING_ERASED, **{name: count}))
    return removed


def _count_row(kind: str, item: StoredItem) -> tuple[str, int]:
    with suppress(Exception):  # an unreadable row counts as ``others``
        if kind == "readings":
            return "readings", len(unpack(item["readings"]))
        if kind == "quarantine":
            return "quarantined", len(msgspec.msgpack.decode(item["records"]))
    return COUNT_FIELDS.get(kind, "others"), 1
