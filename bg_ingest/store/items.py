"""Parts that several kinds of items share: schema version, instants, packed gaps, and the read of a range.

Readers ignore unknown attributes and further elements of arrays, so that newer versions can add them.
"""

from collections.abc import Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, TypeAlias

from bg_ingest.domain.gaps import Cause, Gap
from bg_ingest.domain.segment_codec import to_epoch_ms, to_epoch_seconds
from bg_ingest.errors import StoreError
from bg_ingest.ports.table import Absent, AtMost, Either, Item, Key, Scalar, Table

VERSION = 1
"""Schema version of written items, and the newest version that may be overwritten."""

VERSION_OK = AtMost("v", VERSION)
"""Condition of every write over an item."""

VERSION_OK_OR_ABSENT = Either((Absent(), VERSION_OK))
"""Condition of a write over an item that may exist or not."""

StoredItem: TypeAlias = Mapping[str, Any]
"""Item as read."""


def build_item(**attributes: Scalar | None) -> Item:
    """Return an item with the attributes that are not None and the schema version."""
    return {"v": VERSION} | {name: value for name, value in attributes.items() if value is not None}


def is_newer(item: StoredItem | None) -> bool:
    return item is not None and bool(item["v"] > VERSION)


def newer_version_error() -> StoreError:
    return StoreError("The store holds items written by a newer version of this service: update this one.")


def from_epoch_ms(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def optional_epoch_ms(instant: datetime | None) -> int | None:
    return None if instant is None else to_epoch_ms(instant)


def optional_instant(ms: int | None) -> datetime | None:
    return None if ms is None else from_epoch_ms(ms)


def encode_gap(gap: Gap) -> list[Any]:
    """Return after, before (epoch seconds), cadence, cause, opened and healed (epoch milliseconds).

    The array may only grow at its end.
    """
    return [
        to_epoch_seconds(gap.after),
        None if gap.before is None else to_epoch_seconds(gap.before),
        gap.cadence_seconds,
        gap.cause,
        to_epoch_ms(gap.opened_at),
        optional_epoch_ms(gap.healed_at),
    ]


def decode_gap(packed: list[Any]) -> Gap:
    after, before, cadence, cause, opened_at, healed_at, *_ = packed
    return Gap(
        after=datetime.fromtimestamp(after, UTC),
        before=None if before is None else datetime.fromtimestamp(before, UTC),
        cadence_seconds=cadence,
        cause=Cause(cause),
        opened_at=from_epoch_ms(opened_at),
        healed_at=optional_instant(healed_at),
    )


async def read_range(table: Table, pk: str, low: str, high: str, *, page: int = 100) -> list[tuple[Key, StoredItem]]:
    """Return the items with low <= sort key <= high, ascending."""
    async with aclosing(table.query(pk, low, high, page=page)) as pages:
        return [row async for rows in pages for row in rows]
