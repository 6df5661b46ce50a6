"""Change log: the numbered events of a user, kept for 60 days after the commit. Outbox: one row per unpublished change.

An outbox row is a key only and never expires. Each commit writes the change and its outbox row together.
"""

from collections.abc import AsyncGenerator, Collection, Iterable, Iterator, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Any

import msgspec

from bg_ingest.domain.changes import (
    Change,
    ChangeData,
    ConnectionChanged,
    GapHealed,
    GapOpened,
    ReadingsRecorded,
    ReadingsRevised,
    UserErased,
)
from bg_ingest.domain.commits import Commit
from bg_ingest.domain.connections import ConnectionState
from bg_ingest.domain.ids import UserId, shard_of
from bg_ingest.domain.readings import Origin
from bg_ingest.domain.segment_codec import pack, to_epoch_ms, to_epoch_seconds, unpack
from bg_ingest.errors import StaleRead
from bg_ingest.ports.table import Absent, Delete, Item, Key, Put, StoredItem
from bg_ingest.store import keys
from bg_ingest.store.items import (
    ConditionalWrite,
    ItemStore,
    build_item,
    decode_gap,
    encode_gap,
    from_epoch_ms,
    newer_version_error,
    read_range,
)

CHANGE_RETENTION = timedelta(days=60)
OUTBOX_BATCH_SIZE = 100
CHANGE_BATCH_SIZE = 100
"""Changes per page. A page of changes with one reading each costs 7 read units. A change of a backfill has up to
10 KB."""


class ChangeLog(ItemStore):
    """Numbered changes of each user."""

    async def read(self, user: UserId, first: int, last: int) -> list[Change]:
        """Return the changes with first <= number <= last, ascending; expired ones are absent."""
        if first > last:
            return []
        pk, low = keys.change(user, first)
        _, high = keys.change(user, last)
        rows = await read_range(self._table, pk, low, high)
        return [decode_change(user, keys.parse_change(key), item) for key, item in rows]

    async def iter_kept(
        self, user: UserId, first: int, last: int, now: datetime, *, first_read: int | None = None
    ) -> AsyncGenerator[Change]:
        """Yield the changes with first <= number <= last that have not expired, ascending; none if first > last.

        Each change is decoded only when the loop reaches it, because a commit of a backfill has hundreds of readings.
        With ``first_read``, that many numbers are read first, because the loop may end early and a read is billed by
        its size. If the last of these numbers is missing, the others are not read.
        """
        split = last if first_read is None else min(last, first + first_read - 1)
        number = 0
        for start, end in ((first, split), (split + 1, last)):
            if start > end or (start > first and number < split):
                return
            pk, low = keys.change(user, start)
            _, high = keys.change(user, end)
            async with aclosing(self._table.query(pk, low, high, page=CHANGE_BATCH_SIZE)) as pages:
                async for page in pages:
                    for key, item in page:
                        if item["expires_at"] > now.timestamp():
                            number = keys.parse_change(key)
                            yield decode_change(user, number, item)


class OutboxEntry(msgspec.Struct, frozen=True, order=True):
    """Outbox row of an unpublished change."""

    shard: int
    user: UserId
    number: int

    @property
    def key(self) -> Key:
        return keys.outbox(self.shard, self.user, self.number)


class OutboxStore(ItemStore):
    """Unpublished changes by shard."""

    async def non_empty_shards(self, shards: Collection[int]) -> set[int]:
        """Return the shards with unpublished changes."""
        partitions = {keys.outbox_pk(shard): shard for shard in shards}
        non_empty = await self._table.non_empty(partitions, *keys.SORT_KEY_RANGE)
        return {partitions[pk] for pk in non_empty}

    async def iter_entries(self, shard: int) -> AsyncGenerator[Sequence[OutboxEntry]]:
        """Yield pages of all entries of a shard; the numbers of each user ascend."""
        query = self._table.query(keys.outbox_pk(shard), *keys.SORT_KEY_RANGE, page=OUTBOX_BATCH_SIZE)
        async with aclosing(query) as pages:
            async for page in pages:
                yield [OutboxEntry(shard, *keys.parse_outbox(key)) for key, _ in page]

    async def changes(self, pending: Collection[OutboxEntry]) -> dict[OutboxEntry, Change]:
        """Return the changes of entries; expired ones are absent."""
        by_key = {keys.change(entry.user, entry.number): entry for entry in pending}
        items = await self._table.batch_get(list(by_key))
        return {(entry := by_key[key]): decode_change(entry.user, entry.number, item) for key, item in items.items()}

    async def exists(self, pending: OutboxEntry) -> bool:
        """Return True if the row of an entry still exists. An erasure deletes the rows before the changes."""
        return await self._table.get(pending.key) is not None

    async def settle(self, pending: Collection[OutboxEntry]) -> None:
        """Delete the rows of confirmed events."""
        await self._table.delete([entry.key for entry in pending])

    async def settle_last(self, pending: OutboxEntry) -> None:
        """Delete an outbox row and its change, which is the last change of an erased user."""
        await self._table.transact([Delete(pending.key), Delete(keys.change(pending.user, pending.number))])

    async def restore(self, changes: Iterable[Change]) -> None:
        """Write the rows of changes that are to be published again; existing rows stay."""
        for change in changes:
            await self._table.write(Put(keys.outbox(shard_of(change.user), change.user, change.number), build_item()))


def commit_writes(commit: Commit) -> Iterator[ConditionalWrite]:
    return (ConditionalWrite(write, StaleRead) for change in commit.changes for write in change_writes(change))


def change_writes(change: Change) -> tuple[Put, Put]:
    """Return the writes of a change and of its outbox entry, which is a key only."""
    user, number = change.user, change.number
    return (
        Put(keys.change(user, number), _encode_change(change), (Absent(),)),
        Put(keys.outbox(shard_of(user), user, number), build_item()),
    )


def decode_change(user: UserId, number: int, item: StoredItem) -> Change:
    data = _decode_data(item["kind"], msgspec.msgpack.decode(item["content"]))
    return Change(user, number, from_epoch_ms(item["recorded_at"]), data)


def _encode_change(change: Change) -> Item:
    kind, content = _encode_data(change.data)
    return build_item(
        recorded_at=to_epoch_ms(change.recorded_at),
        kind=kind,
        content=msgspec.msgpack.encode(content),
        expires_at=to_epoch_seconds(change.recorded_at + CHANGE_RETENTION),
    )


def _encode_data(data: ChangeData) -> tuple[str, list[Any]]:
    match data:
        case ReadingsRecorded():
            return "recorded", [data.provider, data.origin, pack(data.readings)]
        case ReadingsRevised():
            return "revised", [data.provider, data.origin, pack(data.readings)]
        case ConnectionChanged():
            return "connection", [data.provider, data.state, data.reason]
        case UserErased():
            return "erased", []
        case GapOpened():
            return "gap_opened", [data.provider, encode_gap(data.gap)]
        case GapHealed():
            return "gap_healed", [data.provider, encode_gap(data.gap)]


def _decode_data(kind: str, content: list[Any]) -> ChangeData:
    match kind, content:
        case "recorded", [provider, origin, readings, *_]:
            return ReadingsRecorded(provider, Origin(origin), unpack(readings))
        case "revised", [provider, origin, readings, *_]:
            return ReadingsRevised(provider, Origin(origin), unpack(readings))
        case "connection", [provider, state, reason, *_]:
            return ConnectionChanged(provider, ConnectionState(state), reason)
        case "erased", _:
            return UserErased()
        case "gap_opened", [provider, gap, *_]:
            return GapOpened(provider, decode_gap(gap))
        case "gap_healed", [provider, gap, *_]:
            return GapHealed(provider, decode_gap(gap))
        case _:
            raise newer_version_error()
