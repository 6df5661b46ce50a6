"""Key-value table with conditional writes and transactions.

It has no more than DynamoDB offers, so that every adapter is small and all adapters behave alike.

Items are flat: text, integers, bytes, booleans. Compound values are MessagePack in bytes, instants are epoch
milliseconds. Every item has ``v``, the schema version of its writer. An item that may be deleted after a time has
``expires_at`` (epoch seconds). Deletion may be late, so readers compare ``expires_at`` themselves.
"""

from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import msgspec

from bg_ingest.errors import StoreError

Key: TypeAlias = tuple[str, str]
"""Partition and sort key; sort keys are ordered by their UTF-8 bytes."""
Scalar: TypeAlias = str | int | bytes | bool
Item: TypeAlias = dict[str, Scalar]
StoredItem: TypeAlias = dict[str, Any]
"""Item as read."""

MAX_WRITES, MAX_KEYS = 100, 100
"""Writes of one transaction and keys of one batch, as in DynamoDB."""


class Absent(msgspec.Struct, frozen=True):
    """The item does not exist."""


class Exists(msgspec.Struct, frozen=True):
    """The item exists. An update that must not create an item needs this condition."""


class Equals(msgspec.Struct, frozen=True):
    """The attribute exists and has this value and type."""

    attribute: str
    value: Scalar


class Missing(msgspec.Struct, frozen=True):
    """The attribute does not exist; also true without an item."""

    attribute: str


class AtMost(msgspec.Struct, frozen=True):
    """The attribute exists and is not greater."""

    attribute: str
    value: int


class OneOf(msgspec.Struct, frozen=True):
    """The attribute exists and has one of these values."""

    attribute: str
    values: tuple[Scalar, ...]


class Either(msgspec.Struct, frozen=True):
    """At least one of the conditions holds."""

    conditions: "tuple[Condition, ...]"


Condition: TypeAlias = Absent | Exists | Equals | Missing | AtMost | OneOf | Either
Conditions: TypeAlias = tuple[Condition, ...]
"""Conditions that must all hold."""


def check_conditions(conditions: Iterable[Condition], item: StoredItem | None) -> bool:
    """Return True if all conditions hold for an item; None stands for an absent item."""
    return all(_check_condition(condition, item) for condition in conditions)


def _check_condition(condition: Condition, item: StoredItem | None) -> bool:
    match condition:
        case Absent():
            return item is None
        case Exists():
            return item is not None
        case Missing(attribute):
            return item is None or attribute not in item
        case Either(conditions):
            return any(_check_condition(alternative, item) for alternative in conditions)
        case _:
            return _check_value(condition, (item or {}).get(condition.attribute))


def _check_value(condition: Equals | AtMost | OneOf, stored: Scalar | None) -> bool:
    match condition:
        case Equals(_, value):
            return _is_same(stored, value)
        case OneOf(_, values):
            return any(_is_same(stored, value) for value in values)
        case AtMost(_, value):
            return isinstance(stored, int) and stored <= value


def _is_same(stored: Scalar | None, value: Scalar) -> bool:
    """Compare type and value: true is not 1."""
    return type(stored) is type(value) and stored == value


class Put(msgspec.Struct, frozen=True):
    """Write the whole item, replacing an existing one."""

    key: Key
    item: Item
    conditions: Conditions = ()


class Update(msgspec.Struct, frozen=True):
    """Set some attributes of an item and remove others."""

    key: Key
    set: Item
    remove: tuple[str, ...]
    conditions: Conditions


class Delete(msgspec.Struct, frozen=True):
    """Delete the item if it exists."""

    key: Key
    conditions: Conditions = ()


class Check(msgspec.Struct, frozen=True):
    """Write nothing; the transaction fails unless the conditions hold."""

    key: Key
    conditions: Conditions


SingleWrite: TypeAlias = Put | Update | Delete
Write: TypeAlias = SingleWrite | Check


class ConditionFailed(StoreError):
    """Conditions did not hold, and nothing was written. The store translates this error; services never get it."""

    def __init__(self, current: Mapping[int, Item | None]) -> None:
        super().__init__()
        self.current = current
        """Existing item of each failed write, by its index; None if there is no item or the server returned none."""


class Table(Protocol):
    """Every method may raise StoreUnavailable.

    A write may also raise TransactionConflict, because another transaction on its items is in progress.
    """

    async def get(self, key: Key) -> StoredItem | None:
        """Read one item, consistently."""

    async def batch_get(self, keys: Collection[Key], *, consistent: bool = True) -> dict[Key, StoredItem]:
        """Read the existing items. They may be of different moments, so that they are no snapshot.

        Unless ``consistent``, an item may be a second old, and the read costs half the units.
        """

    async def batch_get_once(self, keys: Collection[Key]) -> dict[Key, StoredItem | None]:
        """Read at most MAX_KEYS items consistently in one call, None for an item that does not exist.

        Keys that the store leaves unprocessed are missing in the answer. ``batch_get`` requests such keys again. This
        method does not, because all callers of a shared call would wait for one busy key.
        """

    def query(
        self,
        pk: str,
        low: str,
        high: str,
        *,
        consistent: bool = True,
        page: int = 100,
        descending: bool = False,
        attributes: Collection[str] = (),
    ) -> AsyncGenerator[list[tuple[Key, StoredItem]]]:
        """Yield the items with low <= sort key <= high in order, in pages of at most ``page`` items.

        If ``attributes`` are given, items of DynamoDB have only these, because decoding takes most of the time of a
        large page. The generator must be closed. For low > high there are no items.
        """

    def scan(self, part: int, parts: int, kinds: Collection[str] = ()) -> AsyncGenerator[list[tuple[Key, StoredItem]]]:
        """Yield the items of one part of the table whose sort key starts with one of ``kinds``, in no order.

        Each item is in one of the ``parts``. All parts together read the whole table, which takes minutes and costs
        by its size. It is not for regular use. The generator must be closed.
        """

    async def write(self, one: SingleWrite) -> None:
        """Write one item; else ConditionFailed with index 0."""

    async def transact(self, writes: Sequence[Write]) -> None:
        """Write all or nothing; else ConditionFailed. At most MAX_WRITES, each with another key."""

    async def delete(self, keys: Collection[Key]) -> None:
        """Delete items without condition and not atomically."""
