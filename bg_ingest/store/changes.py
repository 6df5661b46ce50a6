"""Change log: the numbered events of a user, kept for 60 days after the commit."""

from collections.abc import Iterator
from datetime import timedelta
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
from bg_ingest.ports.table import Absent, Item, Put, Table
from bg_ingest.store import keys
from bg_ingest.store.conditional import ConditionalWrite
from bg_ingest.store.items import (
    StoredItem,
    build_item,
    decode_gap,
    encode_gap,
    from_epoch_ms,
    newer_version_error,
    read_range,
)

CHANGE_RETENTION = timedelta(days=60)


class ChangeLog:
    """Numbered changes of each user."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def read(self, user: UserId, first: int, last: int) -> list[Change]:
        """Return the changes with first <= number <= last, ascending; expired ones are absent."""
        if first > last:
            return []
        pk, low = keys.change(user, first)
        _, high = keys.change(user, last)
        rows = await read_range(self._table, pk, low, high)
        return [decode_change(user, keys.parse_change(key), item) for key, item in rows]


def writes(commit: Commit) -> Iterator[ConditionalWrite]:
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
