"""Writes with what their failure means, performed together."""

from collections.abc import Sequence

import msgspec

from bg_ingest.errors import Fenced, StaleRead, StoreError
from bg_ingest.ports.table import Check, Condition, ConditionFailed, Equals, Item, Missing, Table, Write
from bg_ingest.store.items import is_newer, newer_version_error


class ConditionalWrite(msgspec.Struct, frozen=True):
    """A write, and what it means when its condition does not hold."""

    write: Write
    on_failure: type[StaleRead | Fenced]


async def write_all(table: Table, conditional_writes: Sequence[ConditionalWrite]) -> None:
    """Write all or nothing. Fenced outweighs StaleRead: reading again does not help against it."""
    writes = [each.write for each in conditional_writes]
    try:
        if len(writes) == 1 and not isinstance(writes[0], Check):
            await table.write(writes[0])
        elif writes:
            await table.transact(writes)
    except ConditionFailed as failed:
        raise _to_error(failed, conditional_writes) from None


def diff_items(before: Item, after: Item) -> tuple[Item, tuple[str, ...]]:
    """Return what an update has to set and to remove."""
    changed = {name: value for name, value in after.items() if before.get(name) != value}
    return changed, tuple(name for name in before if name not in after)


def unchanged_condition(before: Item, name: str) -> Condition:
    return Equals(name, before[name]) if name in before else Missing(name)


def _to_error(failed: ConditionFailed, conditional_writes: Sequence[ConditionalWrite]) -> StoreError:
    if any(map(is_newer, failed.current.values())):
        return newer_version_error()
    return Fenced() if any(conditional_writes[index].on_failure is Fenced for index in failed.current) else StaleRead()
