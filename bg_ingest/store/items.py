"""Items of a user's readings: head, segments, shelves, changes. Newer attributes and longer arrays are passed over."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

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
from bg_ingest.domain.commits import ConnectionSummary, Head
from bg_ingest.domain.connections import ConnectionState
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.quarantine import QuarantinedRecord, QuarantineKey, QuarantinePage
from bg_ingest.domain.readings import Origin
from bg_ingest.domain.segment_codec import pack, to_epoch_ms, to_epoch_seconds, unpack
from bg_ingest.domain.segments import Segment
from bg_ingest.errors import StoreError
from bg_ingest.ports.table import Absent, AtMost, Either, Item, Scalar
from bg_ingest.store.gaps import decode_gap, encode_gap

VERSION = 1
"""The schema version this program writes, and the newest it may overwrite."""

VERSION_OK = AtMost("v", VERSION)
"""The condition of every write over an item."""

VERSION_OK_OR_ABSENT = Either((Absent(), VERSION_OK))
"""The condition of a write over what may be there or not."""

CHANGE_RETENTION = timedelta(days=60)

StoredItem: TypeAlias = Mapping[str, Any]
"""An item as read."""

GAPS_CHECKED = "judged_"
"""Begins the names of the attributes that say how far gaps are judged, of each provider."""

_SUMMARY = "standing_"
_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.decode


def build_item(**attributes: Scalar | None) -> Item:
    """Return an item of what is not None, under our version."""
    return {"v": VERSION} | {name: value for name, value in attributes.items() if value is not None}


def is_newer(found: StoredItem | None) -> bool:
    return found is not None and bool(found["v"] > VERSION)


def newer_version_error() -> StoreError:
    return StoreError("The store holds items written by a newer version of this service: update this one.")


def optional_epoch_ms(instant: datetime | None) -> int | None:
    return None if instant is None else to_epoch_ms(instant)


def optional_instant(ms: int | None) -> datetime | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC)


def encode_head(head: Head) -> Item:
    """Each standing is an attribute of its own: commits for different providers do not undo each other's."""
    newest = None if head.newest is None else pack([head.newest])
    plain = build_item(
        last_change=head.last_change, recorded_at=optional_epoch_ms(head.recorded_at), newest=newest, erased=head.erased
    )
    summaries = {_SUMMARY + name: _encode(msgspec.structs.astuple(each)) for name, each in head.summaries.items()}
    return (
        plain | summaries | {GAPS_CHECKED + name: to_epoch_ms(each) for name, each in head.gaps_checked_until.items()}
    )


def decode_head(user: UserId, found: StoredItem) -> Head:
    newest = found.get("newest")
    return Head(
        user,
        found["last_change"],
        optional_instant(found.get("recorded_at")),
        unpack(newest)[0] if newest else None,
        {name.removeprefix(_SUMMARY): _decode_summary(found[name]) for name in found if name.startswith(_SUMMARY)},
        found["erased"],
        {
            name.removeprefix(GAPS_CHECKED): datetime.fromtimestamp(found[name] / 1000, UTC)
            for name in found
            if name.startswith(GAPS_CHECKED)
        },
    )


def encode_segment(segment: Segment) -> Item:
    return build_item(change=segment.change, readings=pack(segment.readings))


def packed_readings(found: StoredItem) -> bytes:
    """Return a segment's readings as they are, for who need not look into each."""
    readings: bytes = found["readings"]
    return readings


def decode_segment(start: datetime, found: StoredItem) -> Segment:
    return Segment(start, found["change"], unpack(found["readings"]))


def encode_quarantine_page(page: QuarantinePage) -> Item:
    records = [
        [r.reason, r.digest, r.sealed, to_epoch_ms(r.noticed_at), r.provider, r.provider_account] for r in page.records
    ]
    return build_item(version=page.version, records=_encode(records))


def decode_quarantine_page(key: QuarantineKey, found: StoredItem) -> QuarantinePage:
    records = (
        QuarantinedRecord(reason, digest, sealed, datetime.fromtimestamp(noticed / 1000, UTC), *account[:2])
        for reason, digest, sealed, noticed, *account in _decode(found["records"])
    )
    return QuarantinePage(key, found["version"], tuple(records))


def encode_change(change: Change) -> Item:
    kind, content = _encode_change_data(change.data)
    return build_item(
        recorded_at=to_epoch_ms(change.recorded_at),
        kind=kind,
        content=_encode(content),
        expires_at=to_epoch_seconds(change.recorded_at + CHANGE_RETENTION),
    )


def decode_change(user: UserId, number: int, found: StoredItem) -> Change:
    recorded_at = datetime.fromtimestamp(found["recorded_at"] / 1000, UTC)
    return Change(user, number, recorded_at, _decode_change_data(found["kind"], _decode(found["content"])))


def _decode_summary(packed: bytes) -> ConnectionSummary:
    state, cadence, delay, interval, *_ = _decode(packed)
    return ConnectionSummary(ConnectionState(state), cadence, delay, interval)


def _encode_change_data(data: ChangeData) -> tuple[str, list[Any]]:
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


def _decode_change_data(kind: str, content: list[Any]) -> ChangeData:
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
