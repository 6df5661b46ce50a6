"""Unpublished changes: those above the published number in the head of their user, and those with an outbox row.

The relay finds heads by the directory of the shard. A change has an outbox row if its commit does not
update a connection, or leaves it outside the directory. A change that is to be published again also has one.
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
"""Heads read by one call. The event loop runs other tasks between two calls."""


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
    """Content of the row of published numbers: numbers that the heads did not have when the row was written."""

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

        A running service may have published some of them already, because it records a published number later.
        """
        directory = await self.read_directory(shard)
        self.published.load_row(shard, directory.published, directory.users)
        return await self.list_waiting(shard, directory.users)

    async def find_waiting(self, directory: ShardDirectory, *, consistent: bool) -> set[UserId]:
        """Return those users of a directory that have unpublished changes."""
        heads = await self._read_heads(directory.users, consistent=consistent)
        unpublished = {user for user, head in heads.items() if self._waiting_numbers(user, head, ())}
        return unpublished | directory.outbox_users

    async def list_waiting(self, shard: int, users: Collection[UserId]) -> list[OutboxEntry]:
        """Return the unpublished changes of users of one shard; the numbers of each user ascend."""
        heads = await self._read_heads(users, consistent=True)
        # Rows are read after the heads. A row with a number above ``last_change`` of the head was written by a later
        # commit. It is left to the next call, because this one may miss changes before it.
        rows = await self._read_rows(shard) if heads else {}
        return [
            OutboxEntry(shard, user, number, number in with_row)
            for user in sorted(heads)
            for with_row in [rows.get(user, set())]
            for number in self._waiting_numbers(user, heads[user], with_row)
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
        with_row = {number for number in rows if number <= last}
        if head["erased"]:
            return [last] if last in with_row else []
        return sorted(with_row.union(range(published + 1, last + 1)))

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
        """Delete the outbox rows of confirmed entries, after writing the published numbers of their users to the heads.

        Without its rows a user may be absent from the directory, and then nothing would write the number.
        """
        with_row = [entry for entry in confirmed if entry.has_row]
        for user in {entry.user for entry in with_row}:
            await self._write_number(user)
        if with_row:
            await self._table.delete([entry.row_key for entry in with_row])

    async def settle_erasure(self, confirmed: OutboxEntry) -> None:
        """Delete the outbox row and the change of an erasure's event, which is the last event of the user."""
        await self._write_number(confirmed.user)
        await self._table.transact([Delete(confirmed.row_key), Delete(keys.change(confirmed.user, confirmed.number))])
        self.published.remove(confirmed.user)

    async def write_numbers(self, shard: int) -> None:
        """Write the numbers that the heads do not have into the row of a shard, unless the row has the same numbers.

        If another process has written the row since this process read it, the numbers of that row are added first.
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
        """Write the published number of a user to the head, unless the head has this number or a greater one."""
        if self.published.is_in_head(user):
            return
        number = self.published.get(user)
        smaller = Either((Missing("published"), AtMost("published", number)))
        changed: dict[str, Any] = {"published": number, "v": VERSION}
        await try_write(self._table, Update(keys.head(user), changed, (), (Exists(), VERSION_OK, smaller)))
        self.published.record_head(user, number)


def _replace_numbers(shard: int, before: Mapping[UserId, int], after: Mapping[UserId, int]) -> SingleWrite:
    """Return the compare-and-set of a shard's row. A row without numbers is not stored."""
    key = keys.published(shard)
    conditions = (Equals("numbers", msgspec.msgpack.encode(before)), VERSION_OK) if before else (Absent(),)
    return Put(key, build_item(numbers=msgspec.msgpack.encode(after)), conditions) if after else Delete(key, conditions)


def _decode_numbers(item: StoredItem | None) -> dict[UserId, int]:
    return msgspec.msgpack.decode(item["numbers"], type=dict[UserId, int]) if item else {}
