"""Unpublished changes: those above the published number in the head of their user, and those with a row of their own.

A change has a row of its own if its commit removes the user from the directory of the shard, or if it is to be
published again.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from bg_ingest.domain.changes import Change
from bg_ingest.domain.connections import DirectoryRow
from bg_ingest.domain.ids import UserId
from bg_ingest.ports.table import (
    Absent,
    AtMost,
    Delete,
    Either,
    Equals,
    Exists,
    Key,
    Missing,
    Put,
    SingleWrite,
    StoredItem,
    Table,
    Update,
)
from bg_ingest.store import keys
from bg_ingest.store.changes import decode_change
from bg_ingest.store.connections import DIRECTORY_BATCH_SIZE, decode_directory_row
from bg_ingest.store.items import (
    VERSION,
    VERSION_OK,
    ItemStore,
    build_item,
    read_range,
    try_write,
)
from bg_ingest.store.published import PublishedNumbers

HEAD_BATCH_SIZE = 100
"""Heads read by one call. The event loop has time for other tasks in between."""


class OutboxEntry(msgspec.Struct, frozen=True, order=True):
    """Change to be published."""

    shard: int
    user: UserId
    number: int
    has_row: bool = False

    @property
    def row_key(self) -> Key:
        return keys.outbox(self.user, self.number)


class ShardDirectory(msgspec.Struct, frozen=True):
    """Rows of a shard: its connections, its outbox rows, and its row of published numbers."""

    connections: Sequence[DirectoryRow]
    outbox_users: frozenset[UserId]
    """Users with outbox rows."""
    published: Mapping[UserId, int]
    """Content of the row of published numbers: those that were not in the heads yet when this row was written."""

    @property
    def users(self) -> set[UserId]:
        """All users that may have unpublished changes."""
        return {row.id.user for row in self.connections} | self.outbox_users


class OutboxStore(ItemStore):
    """Unpublished changes by shard. ``published`` has the numbers that this process knows."""

    def __init__(self, table: Table, published: PublishedNumbers) -> None:
        super().__init__(table)
        self.published = published

    async def read_directory(self, shard: int) -> ShardDirectory:
        """Read all rows of a shard by one query."""
        pk, high = keys.published(shard)
        low, _ = keys.prefix_range(keys.CONNECTIONS)
        connections: list[DirectoryRow] = []
        users: set[UserId] = set()
        numbers: dict[UserId, int] = {}
        for key, item in await read_range(self._table, pk, low, high, page=DIRECTORY_BATCH_SIZE):
            if key[1] == high:
                numbers = _decode_numbers(item)
            elif key[1].startswith(keys.OUTBOX):
                users.add(keys.parse_outbox(key)[0])
            else:
                connections.append(decode_directory_row(key, item))
        return ShardDirectory(connections, frozenset(users), numbers)

    async def list_shard(self, shard: int) -> list[OutboxEntry]:
        """Return the changes of a shard that are not recorded as published.

        While the service runs, the last change of a user may be published already: a later commit records it.
        """
        directory = await self.read_directory(shard)
        self.published.load_row(shard, directory.published, directory.users)
        return await self.list_waiting(shard, directory.users)

    async def find_waiting(self, directory: ShardDirectory, *, consistent: bool) -> set[UserId]:
        """Return the users of a directory with unpublished changes."""
        heads = await self._read_heads(directory.users, consistent=consistent)
        unpublished = {user for user, head in heads.items() if self._waiting_numbers(user, head, ())}
        return unpublished | directory.outbox_users

    async def list_waiting(self, shard: int, users: Collection[UserId]) -> list[OutboxEntry]:
        """Return the unpublished changes of users of one shard; the numbers of each user ascend."""
        heads = await self._read_heads(users, consistent=True)
        # Read after the heads. A row above the last number in its head comes from a later commit. This pass may lack
        # changes before it, so it leaves the row to the next pass, which keeps the order.
        rows = await self._read_rows(shard) if heads else {}
        return [
            OutboxEntry(shard, user, number, number in listed)
            for user in sorted(heads)
            for listed in [rows.get(user, set())]
            for number in self._waiting_numbers(user, heads[user], listed)
        ]

    async def _read_heads(self, users: Collection[UserId], *, consistent: bool) -> dict[UserId, StoredItem]:
        heads: dict[UserId, StoredItem] = {}
        ordered = sorted(users)
        for start in range(0, len(ordered), HEAD_BATCH_SIZE):
            by_key = {keys.head(user): user for user in ordered[start : start + HEAD_BATCH_SIZE]}
            items = await self._table.batch_get(list(by_key), consistent=consistent)
            heads |= {by_key[key]: item for key, item in items.items()}
        return heads

    def _waiting_numbers(self, user: UserId, head: StoredItem, rows: Collection[int]) -> list[int]:
        """Return the unpublished numbers of a user. Of an erased user only the event of the erasure is left."""
        self.published.record_head(user, head["published"])
        last, published = head["last_change"], max(head["published"], self.published.get(user))
        listed = {number for number in rows if number <= last}
        if head["erased"]:
            return [last] if last in listed else []
        return sorted(listed.union(range(published + 1, last + 1)))

    async def _read_rows(self, shard: int) -> dict[UserId, set[int]]:
        """Return the numbers with a row, by user."""
        rows: dict[UserId, set[int]] = {}
        for key, _ in await read_range(self._table, keys.directory_pk(shard), *keys.prefix_range(keys.OUTBOX)):
            user, number = keys.parse_outbox(key)
            rows.setdefault(user, set()).add(number)
        return rows

    async def changes(self, pending: Collection[OutboxEntry]) -> dict[OutboxEntry, Change]:
        """Return the stored changes of entries. Changes that were deleted, expired or erased, are absent."""
        by_key = {keys.change(entry.user, entry.number): entry for entry in pending}
        items = await self._table.batch_get(list(by_key))
        return {(entry := by_key[key]): decode_change(entry.user, entry.number, item) for key, item in items.items()}

    async def is_erased(self, user: UserId) -> bool:
        head = await self._table.get(keys.head(user))
        return head is None or head["erased"]

    async def settle(self, confirmed: Collection[OutboxEntry]) -> None:
        """Write the published number of each user with rows to the head, then delete the rows.

        After the deletion the shard possibly no longer lists the user, and nothing would write the number.
        """
        listed = [entry for entry in confirmed if entry.has_row]
        for user in {entry.user for entry in listed}:
            await self._write_number(user)
        if listed:
            await self._table.delete([entry.row_key for entry in listed])

    async def settle_erasure(self, confirmed: OutboxEntry) -> None:
        """Delete the row of an erasure's event and the change, which is the last one of the user."""
        await self._write_number(confirmed.user)
        await self._table.transact([Delete(confirmed.row_key), Delete(keys.change(confirmed.user, confirmed.number))])
        self.published.remove(confirmed.user)

    async def write_numbers(self, shard: int) -> None:
        """Write the row of a shard with the numbers that the heads do not have, if it differs from the stored row.

        If another process has written the row since it was read here, its numbers are adopted first.
        """
        row, numbers = self.published.rows(shard)
        while numbers != row and not await try_write(self._table, _replace_numbers(shard, row, numbers)):
            stored = _decode_numbers(await self._table.get(keys.published(shard)))
            self.published.load_row(shard, stored, stored.keys())
            row, numbers = self.published.rows(shard)
        self.published.record_row(shard, numbers)

    async def restore(self, changes: Iterable[Change]) -> None:
        """Write the rows of changes that are to be published again; existing rows stay."""
        for change in changes:
            await self._table.write(Put(keys.outbox(change.user, change.number), build_item()))

    async def _write_number(self, user: UserId) -> None:
        """Write the published number of a user to the head, unless it has it. A greater number stays."""
        if self.published.is_stored(user):
            return
        number = self.published.get(user)
        smaller = Either((Missing("published"), AtMost("published", number)))
        changed: dict[str, Any] = {"published": number, "v": VERSION}
        await try_write(self._table, Update(keys.head(user), changed, (), (Exists(), VERSION_OK, smaller)))
        self.published.record_head(user, number)


def _replace_numbers(shard: int, before: Mapping[UserId, int], after: Mapping[UserId, int]) -> SingleWrite:
    """Return the compare-and-set of a shard's row. The row does not exist if it has no numbers."""
    key = keys.published(shard)
    conditions = (Equals("numbers", msgspec.msgpack.encode(before)), VERSION_OK) if before else (Absent(),)
    return Put(key, build_item(numbers=msgspec.msgpack.encode(after)), conditions) if after else Delete(key, conditions)


def _decode_numbers(item: StoredItem | None) -> dict[UserId, int]:
    return msgspec.msgpack.decode(item["numbers"], type=dict[UserId, int]) if item else {}
