"""Writes with what their failure means, performed together."""

from collections.abc import Sequence

import msgspec

from bg_ingest.adapters.table.protocol import Check, Condition, ConditionFailed, Equals, Item, Missing, Table, Write
from bg_ingest.adapters.table.records import is_newer, newer
from bg_ingest.errors import Fenced, Outdated, StoreError


class Guarded(msgspec.Struct, frozen=True):
    """A write, and what it means when its condition does not hold."""

    write: Write
    otherwise: type[Outdated | Fenced]


async def perform(table: Table, guarded: Sequence[Guarded]) -> None:
    """Write all or nothing. Fenced outweighs Outdated: reading again does not help against it."""
    writes = [each.write for each in guarded]
    try:
        if len(writes) == 1 and not isinstance(writes[0], Check):
            await table.write(writes[0])
        elif writes:
            await table.transact(writes)
    except ConditionFailed as failed:
        raise _meaning(failed, guarded) from None


def difference(before: Item, after: Item) -> tuple[Item, tuple[str, ...]]:
    """Return what an update has to set and to remove."""
    changed = {name: value for name, value in after.items() if before.get(name) != value}
    return changed, tuple(name for name in before if name not in after)


def as_read(before: Item, name: str) -> Condition:
    return Equals(name, before[name]) if name in before else Missing(name)


def _meaning(failed: ConditionFailed, guarded: Sequence[Guarded]) -> StoreError:
    if any(map(is_newer, failed.met.values())):
        return newer()
    return Fenced() if any(guarded[place].otherwise is Fenced for place in failed.met) else Outdated()
