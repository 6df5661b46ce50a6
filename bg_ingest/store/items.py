"""Parts that several kinds of items share: schema version, conditional writes, instants, packed gaps, range reads.

Readers ignore unknown attributes and further elements of arrays, so that newer versions can add them.
"""

from collections.abc import Iterable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import msgspec

from bg_ingest.domain.gaps import Cause, Gap
from bg_ingest.domain.segment_codec import to_epoch_ms, to_epoch_seconds
from bg_ingest.domain.windows import Window
from bg_ingest.errors import Fenced, StaleRead, StoreError
from bg_ingest.ports.table import (
    Absent,
    AtMost,
    Check,
    Condition,
    ConditionFailed,
    Conditions,
    Either,
    Equals,
    Exists,
    Item,
    Key,
    Missing,
    Scalar,
    SingleWrite,
    StoredItem,
    Table,
    Update,
    Write,
    check_conditions,
)

VERSION = 1
"""Schema version of written items, and the newest version that may be overwritten."""

VERSION_OK = AtMost("v", VERSION)
"""Condition of every write that overwrites an item."""

VERSION_OK_OR_ABSENT = Either((Absent(), VERSION_OK))
"""Condition of a write that creates or overwrites an item."""


def build_item(**attributes: Scalar | None) -> Item:
    """Return an item with the attributes that are not None and the schema version."""
    return {"v": VERSION} | {name: value for name, value in attributes.items() if value is not None}


def is_newer(item: StoredItem | None) -> bool:
    return item is not None and bool(item["v"] > VERSION)


def newer_version_error() -> StoreError:
    return StoreError("The store holds items written by a newer version of this service: update this one.")


class ConditionalWrite(msgspec.Struct, frozen=True):
    """Write with the error to raise if its condition fails."""

    write: Write
    on_failure: type[StaleRead | Fenced]
    fencing: Conditions = ()
    """Those conditions of the write that raise Fenced. All other conditions raise ``on_failure``."""

    def to_error(self, current: StoredItem | None) -> type[StaleRead | Fenced]:
        """Return the error of the failed write; ``current`` is the existing item."""
        return self.on_failure if check_conditions(self.fencing, current) else Fenced


async def write_all(table: Table, conditional_writes: Sequence[ConditionalWrite]) -> None:
    """Write all or nothing.

    Fenced has precedence over StaleRead, because a retry after StaleRead does not read the connection again.
    """
    writes = [conditional.write for conditional in conditional_writes]
    try:
        if len(writes) == 1 and not isinstance(writes[0], Check):
            await table.write(writes[0])
        elif writes:
            await table.transact(writes)
    except ConditionFailed as failed:
        raise _to_error(failed, conditional_writes) from None


async def write_if_current(table: Table, write: SingleWrite) -> None:
    """Write one item; StaleRead if its condition does not hold."""
    await write_all(table, [ConditionalWrite(write, StaleRead)])


async def try_write(table: Table, write: SingleWrite) -> bool:
    """Write one item; return False if its condition does not hold."""
    try:
        await table.write(write)
    except ConditionFailed as failed:
        if is_newer(failed.current[0]):
            raise newer_version_error() from None
        return False
    return True


def update_existing(
    key: Key, changed: Item, conditions: Iterable[Condition] = (), removed: tuple[str, ...] = ()
) -> Update:
    """Return an update that fails if the item does not exist."""
    return Update(key, changed | {"v": VERSION}, removed, (Exists(), VERSION_OK, *conditions))


def diff_items(before: Item, after: Item) -> tuple[Item, tuple[str, ...]]:
    """Return the attributes that an update sets and the names of those that it removes."""
    changed = {name: value for name, value in after.items() if before.get(name) != value}
    return changed, tuple(name for name in before if name not in after)


def unchanged_condition(before: Item, name: str) -> Condition:
    return value_condition(name, before.get(name))


def value_condition(name: str, value: Scalar | None) -> Condition:
    """Return the condition that an attribute has a value, or is missing if the value is None."""
    return Missing(name) if value is None else Equals(name, value)


def version_conditions(version: int) -> Conditions:
    """Return the conditions for writing a version: the stored version is one lower; version 1 needs an absent item."""
    return (Equals("version", version - 1), VERSION_OK) if version > 1 else (Absent(),)


def _to_error(failed: ConditionFailed, conditional_writes: Sequence[ConditionalWrite]) -> StoreError:
    if any(map(is_newer, failed.current.values())):
        return newer_version_error()
    errors = [conditional_writes[index].to_error(current) for index, current in failed.current.items()]
    return Fenced() if Fenced in errors else StaleRead()


def from_epoch_ms(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def optional_epoch_ms(instant: datetime | None) -> int | None:
    return None if instant is None else to_epoch_ms(instant)


def optional_instant(ms: int | None) -> datetime | None:
    return None if ms is None else from_epoch_ms(ms)


def optional_window(start_ms: int | None, end_ms: int | None) -> Window | None:
    return None if start_ms is None or end_ms is None else Window(from_epoch_ms(start_ms), from_epoch_ms(end_ms))


def encode_gap(gap: Gap) -> list[Any]:
    """Return a gap as an array. The neighbours are in epoch seconds, ``opened_at`` and ``healed_at`` in milliseconds.

    Later versions may only append elements.
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


class ItemStore:
    def __init__(self, table: Table) -> None:
        self._table = table


async def read_range(table: Table, pk: str, low: str, high: str, *, page: int = 100) -> list[tuple[Key, StoredItem]]:
    """Return the items with low <= sort key <= high, ascending."""
    async with aclosing(table.query(pk, low, high, page=page)) as pages:
        return [row async for rows in pages for row in rows]
