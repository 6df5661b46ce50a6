"""Change log: the numbered events of a user, kept for 60 days after the commit.

The head has the number up to which changes are published; changes above it are unpublished (``outbox.py``). The relay
finds heads through the directory of the shard. A commit after which the directory might not list the user adds an
outbox row for each change: a key without content that never expires.
"""

from collections.abc import AsyncGenerator, Iterator
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
from bg_ingest.domain.connections import STATES_WITH_GRANT, ConnectionState
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.readings import Origin
from bg_ingest.domain.segment_codec import pack, to_epoch_ms, to_epoch_seconds, unpack
from bg_ingest.errors import StaleRead
from bg_ingest.ports.table import Absent, Item, Put, StoredItem
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
CHANGE_BATCH_SIZE = 100
"""Changes per page. A page of changes with one reading each costs 7 read units. A change of a backfill has up to
10 KB."""


class ChangeLog(ItemStore):
    """Numbered changes of each user."""

    async def read(self, user: UserId, first: int, last: int) -> list[Change]:
        """Return the stored changes with first <= number <= last, ascending. Expired ones are also returned."""
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
        With ``first_read``, the first ``first_read`` changes are read separately, because the loop may end early and a
        read is billed by its size. If the last change of this part is missing or expired, the rest is not read.
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


def commit_writes(commit: Commit) -> Iterator[ConditionalWrite]:
    for change in commit.changes:
        yield ConditionalWrite(change_write(change), StaleRead)
        if not is_in_directory(commit):
            yield ConditionalWrite(outbox_write(change), StaleRead)


def is_in_directory(commit: Commit) -> bool:
    """Return True if the commit leaves a connection of the user in the directory of the shard."""
    return commit.connection_update is not None and commit.connection_update.after.state in STATES_WITH_GRANT


def change_write(change: Change) -> Put:
    return Put(keys.change(change.user, change.number), _encode_change(change), (Absent(),))


def outbox_write(change: Change) -> Put:
    """Return the write of an outbox row; an existing row stays the same."""
    return Put(keys.outbox(change.user, change.number), build_item())


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
