"""Items of a user's readings: head, segments, shelves, changes. Newer attributes and longer arrays are passed over."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import msgspec

from bg_ingest.adapters.table.gap_records import gap_of, packed_gap
from bg_ingest.adapters.table.protocol import Absent, AtMost, Either, Item, Scalar
from bg_ingest.domain.columns import milliseconds, pack, seconds, unpack
from bg_ingest.domain.commits import Head, Place, SetAside, Shelf, Standing
from bg_ingest.domain.connections import State
from bg_ingest.domain.events import (
    Change,
    ConnectionChanged,
    GapHealed,
    GapOpened,
    Happening,
    ReadingsRecorded,
    ReadingsRevised,
    UserErased,
)
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.readings import Origin
from bg_ingest.domain.segments import Segment
from bg_ingest.errors import StoreError

VERSION = 1
"""The schema version this program writes, and the newest it may overwrite."""

OURS = AtMost("v", VERSION)
"""The condition of every write over an item."""

FREE = Either((Absent(), OURS))
"""The condition of a write over what may be there or not."""

CHANGES_KEPT = timedelta(days=60)

Found: TypeAlias = Mapping[str, Any]
"""An item as read."""

JUDGED = "judged_"
"""Begins the names of the attributes that say how far gaps are judged, of each provider."""

_STANDING = "standing_"
_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.decode


def item(**attributes: Scalar | None) -> Item:
    """Return an item of what is not None, under our version."""
    return {"v": VERSION} | {name: value for name, value in attributes.items() if value is not None}


def is_newer(found: Found | None) -> bool:
    return found is not None and bool(found["v"] > VERSION)


def newer() -> StoreError:
    return StoreError("The store holds items written by a newer version of this service: update this one.")


def epoch_ms(instant: datetime | None) -> int | None:
    return None if instant is None else milliseconds(instant)


def instant(ms: int | None) -> datetime | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC)


def head_item(head: Head) -> Item:
    """Each standing is an attribute of its own: commits for different providers do not undo each other's."""
    newest = None if head.newest is None else pack([head.newest])
    plain = item(
        last_change=head.last_change, recorded_at=epoch_ms(head.recorded_at), newest=newest, erased=head.erased
    )
    standings = {_STANDING + name: _encode(msgspec.structs.astuple(each)) for name, each in head.standings.items()}
    return plain | standings | {JUDGED + name: milliseconds(each) for name, each in head.judged.items()}


def head_of(user: UserId, found: Found) -> Head:
    newest = found.get("newest")
    return Head(
        user,
        found["last_change"],
        instant(found.get("recorded_at")),
        unpack(newest)[0] if newest else None,
        {name.removeprefix(_STANDING): _standing(found[name]) for name in found if name.startswith(_STANDING)},
        found["erased"],
        {
            name.removeprefix(JUDGED): datetime.fromtimestamp(found[name] / 1000, UTC)
            for name in found
            if name.startswith(JUDGED)
        },
    )


def segment_item(segment: Segment) -> Item:
    return item(change=segment.change, readings=pack(segment.readings))


def packed_of(found: Found) -> bytes:
    """Return a segment's readings as they are, for who need not look into each."""
    readings: bytes = found["readings"]
    return readings


def segment_of(start: datetime, found: Found) -> Segment:
    return Segment(start, found["change"], unpack(found["readings"]))


def shelf_item(shelf: Shelf) -> Item:
    records = [
        [r.reason, r.digest, r.sealed, milliseconds(r.noticed_at), r.provider, r.provider_account]
        for r in shelf.records
    ]
    return item(version=shelf.version, records=_encode(records))


def shelf_of(place: Place, found: Found) -> Shelf:
    records = (
        SetAside(reason, digest, sealed, datetime.fromtimestamp(noticed / 1000, UTC), *whose[:2])
        for reason, digest, sealed, noticed, *whose in _decode(found["records"])
    )
    return Shelf(place, found["version"], tuple(records))


def change_item(change: Change) -> Item:
    kind, content = _written(change.what)
    return item(
        recorded_at=milliseconds(change.recorded_at),
        kind=kind,
        content=_encode(content),
        expires_at=seconds(change.recorded_at + CHANGES_KEPT),
    )


def change_of(user: UserId, number: int, found: Found) -> Change:
    recorded_at = datetime.fromtimestamp(found["recorded_at"] / 1000, UTC)
    return Change(user, number, recorded_at, _happening(found["kind"], _decode(found["content"])))


def _standing(packed: bytes) -> Standing:
    state, cadence, delay, interval, *_ = _decode(packed)
    return Standing(State(state), cadence, delay, interval)


def _written(what: Happening) -> tuple[str, list[Any]]:
    match what:
        case ReadingsRecorded():
            return "recorded", [what.provider, what.origin, pack(what.readings)]
        case ReadingsRevised():
            return "revised", [what.provider, what.origin, pack(what.readings)]
        case ConnectionChanged():
            return "connection", [what.provider, what.state, what.reason]
        case UserErased():
            return "erased", []
        case GapOpened():
            return "gap_opened", [what.provider, packed_gap(what.gap)]
        case GapHealed():
            return "gap_healed", [what.provider, packed_gap(what.gap)]


def _happening(kind: str, content: list[Any]) -> Happening:
    match kind, content:
        case "recorded", [provider, origin, readings, *_]:
            return ReadingsRecorded(provider, Origin(origin), unpack(readings))
        case "revised", [provider, origin, readings, *_]:
            return ReadingsRevised(provider, Origin(origin), unpack(readings))
        case "connection", [provider, state, reason, *_]:
            return ConnectionChanged(provider, State(state), reason)
        case "erased", _:
            return UserErased()
        case "gap_opened", [provider, gap, *_]:
            return GapOpened(provider, gap_of(gap))
        case "gap_healed", [provider, gap, *_]:
            return GapHealed(provider, gap_of(gap))
        case _:
            raise newer()
