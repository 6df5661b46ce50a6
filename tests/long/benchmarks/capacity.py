"""Cost of a table's calls in DynamoDB's units, by its rules and from the sizes of the items they touch.

Rules as of 2026-11, from the developer guide ("read/write capacity mode", "item sizes and formats"):

- an item's size is that of its attributes' names and values in UTF-8; a number takes a byte and one for each two
  significant digits, and one more below zero; a truth value takes one byte
- a write costs a unit per started KB of the larger of the item before and after it, at least one; in a transaction,
  conditions without a write included, twice that
- a read costs a unit per started 4 KB, of each item in a batch, of all items together in a page of a query; half of
  that if it need not be consistent; a missing item costs as much as the smallest existing one
"""

import math
from collections.abc import AsyncGenerator, Awaitable, Collection, Sequence

import msgspec

from bg_ingest.adapters.dynamodb.transport import Answer, Transport
from bg_ingest.ports.table import Check, Delete, Item, Key, Put, Scalar, SingleWrite, Table, Update, Write

READ_BLOCK, WRITE_BLOCK = 4096, 1024
"""Bytes that one unit reads consistently or writes."""

WRITING = {"PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems"}


class Units(msgspec.Struct, frozen=True):
    """Consumed capacity of a table."""

    reads: float = 0
    writes: float = 0

    def __add__(self, other: "Units") -> "Units":
        return Units(self.reads + other.reads, self.writes + other.writes)

    def __sub__(self, other: "Units") -> "Units":
        return Units(self.reads - other.reads, self.writes - other.writes)

    def times(self, factor: float) -> "Units":
        return Units(self.reads * factor, self.writes * factor)


def item_size(key: Key, item: Item) -> int:
    """Return the billed bytes of a value."""
    whole: Item = {"pk": key[0], "sk": key[1], **item}
    return sum(len(name.encode()) + _size(value) for name, value in whole.items())


def _size(value: Scalar) -> int:
    match value:
        case str():
            return len(value.encode())
        case bool():  # before int, because bool is a subclass of int
            return 1
        case int():
            digits = str(abs(value)).rstrip("0")
            return 1 + math.ceil(len(digits) / 2) + (value < 0)
        case bytes():
            return len(value)


def read_units(size: int, *, consistent: bool = True) -> float:
    return max(1, math.ceil(size / READ_BLOCK)) * (1 if consistent else 0.5)


def write_units(before: int, after: int) -> int:
    return max(1, math.ceil(max(before, after) / WRITE_BLOCK))


def kind_of(key: Key) -> str:
    """Return the kind of an item: the first part of its sort key if it is a user's, else of its partition key."""
    pk, sk = key
    return (sk if pk.startswith("user#") else pk).partition("#")[0]


class MeteredTable:
    """A Table that adds up the cost of its calls. It reads overwritten items without counting these reads."""

    def __init__(self, inner: Table) -> None:
        self._inner = inner
        self.by_kind: dict[str, Units] = {}
        """Units by kind of item."""
        self.transactions = 0

    @property
    def used(self) -> Units:
        return sum(self.by_kind.values(), start=Units())

    async def get(self, key: Key) -> Item | None:
        found = await self._inner.get(key)
        self._use(key, Units(read_units(item_size(key, found) if found else 0)))
        return found

    async def batch_get(self, keys: Collection[Key], *, consistent: bool = True) -> dict[Key, Item]:
        found = await self._inner.batch_get(keys, consistent=consistent)
        for key in set(keys):
            self._use(key, Units(read_units(item_size(key, found[key]) if key in found else 0, consistent=consistent)))
        return found

    async def batch_get_once(self, keys: Collection[Key]) -> dict[Key, Item | None]:
        found = await self._inner.batch_get_once(keys)
        for key, item in found.items():
            self._use(key, Units(read_units(item_size(key, item) if item else 0)))
        return found

    async def query(
        self,
        pk: str,
        low: str,
        high: str,
        *,
        consistent: bool = True,
        page: int = 100,
        descending: bool = False,
        attributes: Collection[str] = (),
    ) -> AsyncGenerator[list[tuple[Key, Item]]]:
        del attributes  # the size of whole items is billed
        found = page
        async for items in self._inner.query(pk, low, high, consistent=consistent, page=page, descending=descending):
            found = len(items)
            size = sum(item_size(*each) for each in items)
            self._use((pk, low), Units(read_units(size, consistent=consistent)))
            yield items
        if found == page:  # an empty page, or a full one: only an empty page after it shows that it was the last
            self._use((pk, low), Units(read_units(0, consistent=consistent)))

    async def scan(self, part: int, parts: int, kinds: Collection[str] = ()) -> AsyncGenerator[list[tuple[Key, Item]]]:
        """Pass a scan on uncounted: a filter hides the items whose reading is billed too."""
        async for items in self._inner.scan(part, parts, kinds):
            yield items

    async def write(self, one: SingleWrite) -> None:
        await self._weighed([one], self._inner.write(one))

    async def transact(self, writes: Sequence[Write]) -> None:
        await self._weighed(writes, self._inner.transact(writes), times=2)
        self.transactions += 1

    async def delete(self, keys: Collection[Key]) -> None:
        await self._weighed([Delete(key) for key in keys], self._inner.delete(keys))

    async def _weighed(self, writes: Sequence[Write], done: Awaitable[None], *, times: int = 1) -> None:
        before = await self._inner.batch_get([write.key for write in writes])
        await done
        for write in writes:
            self._use(write.key, Units(writes=times * _write_units(write, before.get(write.key))))

    def _use(self, key: Key, units: Units) -> None:
        self.by_kind[kind_of(key)] = self.by_kind.get(kind_of(key), Units()) + units


def _write_units(write: Write, before: Item | None) -> int:
    after: Item = {}
    match write:
        case Put(_, item):
            after = item
        case Update(_, changed, removed):
            after = {name: value for name, value in ((before or {}) | changed).items() if name not in removed}
        case Delete() | Check():
            pass
    return write_units(item_size(write.key, before or {}), item_size(write.key, after))


class MeteredTransport:
    """A client that requests the consumed capacity of each write from the server, and adds it up."""

    def __init__(self, client: Transport) -> None:
        self._client = client
        self.reported_units = 0.0

    async def call(self, operation: str, **request: object) -> Answer:
        if operation not in WRITING:
            return await self._client.call(operation, **request)
        answer = await self._client.call(operation, **request, ReturnConsumedCapacity="TOTAL")
        consumed = answer["ConsumedCapacity"]
        by_table = consumed if isinstance(consumed, list) else [consumed]
        self.reported_units += sum(float(each["CapacityUnits"]) for each in by_table)
        return answer
