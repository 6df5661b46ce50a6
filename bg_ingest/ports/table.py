"""What a table must do: no more than DynamoDB can, so that every adapter is small and all mean the same.

Items are flat: text, integers, bytes, booleans; what is compound is MessagePack in bytes, instants are epoch
milliseconds. Every item carries ``v``, the schema version that wrote it, and ``expires_at`` (epoch seconds) where it
may be deleted after that time; a table deletes late, so whoever reads must look.
"""

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from typing import Protocol, TypeAlias

import msgspec

from bg_ingest.errors import StoreError

Key: TypeAlias = tuple[str, str]
"""Partition and sort key; sort keys are ordered by their UTF-8 bytes."""
Scalar: TypeAlias = str | int | bytes | bool
Item: TypeAlias = dict[str, Scalar]

MAX_WRITES = 100
"""In one transaction, as DynamoDB allows."""


class Absent(msgspec.Struct, frozen=True):
    """There is no such item."""


class Exists(msgspec.Struct, frozen=True):
    """There is such an item. An update that is not to create one needs this."""


class Equals(msgspec.Struct, frozen=True):
    """The attribute is there and is this, of the same type."""

    attribute: str
    value: Scalar


class Missing(msgspec.Struct, frozen=True):
    """The attribute is not there; true also where there is no item."""

    attribute: str


class AtMost(msgspec.Struct, frozen=True):
    """The attribute is there and not greater."""

    attribute: str
    value: int


class OneOf(msgspec.Struct, frozen=True):
    """The attribute is there and one of these."""

    attribute: str
    values: tuple[Scalar, ...]


class Either(msgspec.Struct, frozen=True):
    """At least one of these holds."""

    conditions: "tuple[Condition, ...]"


Condition: TypeAlias = Absent | Exists | Equals | Missing | AtMost | OneOf | Either
Conditions: TypeAlias = tuple[Condition, ...]
"""All of them must hold."""


class Put(msgspec.Struct, frozen=True):
    """Write the whole item, whatever was there."""

    key: Key
    item: Item
    conditions: Conditions = ()


class Update(msgspec.Struct, frozen=True):
    """Write some attributes of an item, and take others away."""

    key: Key
    set: Item
    remove: tuple[str, ...]
    conditions: Conditions


class Delete(msgspec.Struct, frozen=True):
    """Take the item away, if there is one."""

    key: Key
    conditions: Conditions = ()


class Check(msgspec.Struct, frozen=True):
    """Write nothing, but let the transaction fail unless the conditions hold."""

    key: Key
    conditions: Conditions


SingleWrite: TypeAlias = Put | Update | Delete
Write: TypeAlias = SingleWrite | Check


class ConditionFailed(StoreError):
    """Conditions did not hold, nothing was written. Ports translate this: it never leaves the adapters."""

    def __init__(self, current: Mapping[int, Item | None]) -> None:
        super().__init__()
        self.current = current
        """The failed writes by their place, each with the item it met; None where there is none or it is not told."""


class Table(Protocol):
    """Every method may raise StoreUnavailable; writes also Conflicted, where a transaction was under way."""

    async def get(self, key: Key) -> Item | None:
        """Read one item, consistently."""

    async def batch_get(self, keys: Collection[Key]) -> dict[Key, Item]:
        """Read those that exist, each consistently; together they are no snapshot."""

    def query(
        self, pk: str, low: str, high: str, *, consistent: bool = True, page: int = 100
    ) -> AsyncGenerator[list[tuple[Key, Item]]]:
        """Yield the items with low <= sort key <= high, ascending, in pages of at most so many items; to be closed."""

    async def non_empty(self, pks: Collection[str], low: str, high: str) -> set[str]:
        """Return those partitions that have an item with low <= sort key <= high, each read consistently."""

    def scan(self, part: int, parts: int, kinds: Collection[str] = ()) -> AsyncGenerator[list[tuple[Key, Item]]]:
        """Yield every item of the table whose sort key starts with one of ``kinds``, in no order; to be closed.

        The table is cut into so many parts, each item in one of them; one part is read. Reads the whole table, which
        takes minutes and costs by its size: not for what happens every day.
        """

    async def write(self, one: SingleWrite) -> None:
        """Write one item; else ConditionFailed at 0."""

    async def transact(self, writes: Sequence[Write]) -> None:
        """Write all or nothing; else ConditionFailed. No key twice, at most MOST_WRITES."""

    async def delete(self, keys: Collection[Key]) -> None:
        """Delete all of these, without condition and not as one."""
