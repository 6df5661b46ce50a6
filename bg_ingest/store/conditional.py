"""Writes with the errors that their failed conditions mean, and helpers for conditions."""

from collections.abc import Sequence

import msgspec

from bg_ingest.errors import Fenced, StaleRead, StoreError
from bg_ingest.ports.table import (
    Absent,
    Check,
    Condition,
    ConditionFailed,
    Conditions,
    Equals,
    Item,
    Missing,
    Scalar,
    SingleWrite,
    Table,
    Write,
)
from bg_ingest.store.items import VERSION_OK, is_newer, newer_version_error


class ConditionalWrite(msgspec.Struct, frozen=True):
    """Write with the error that a failed condition means."""

    write: Write
    on_failure: type[StaleRead | Fenced]


async def write_all(table: Table, conditional_writes: Sequence[ConditionalWrite]) -> None:
    """Write all or nothing. Fenced outweighs StaleRead, because a repeated read does not help against it."""
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
    """Return the conditions of an item whose version counts its writes: one write less, or absent before the first."""
    return (Equals("version", version - 1), VERSION_OK) if version > 1 else (Absent(),)


def _to_error(failed: ConditionFailed, conditional_writes: Sequence[ConditionalWrite]) -> StoreError:
    if any(map(is_newer, failed.current.values())):
        return newer_version_error()
    return Fenced() if any(conditional_writes[index].on_failure is Fenced for index in failed.current) else StaleRead()
