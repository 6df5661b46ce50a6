"""The port Ownership over a table, and where hints for a shard are to be sent."""

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from random import uniform
from typing import TypeVar

import anyio
import msgspec

from bg_ingest.domain.ids import SHARDS
from bg_ingest.domain.ownership import UNOWNED, Lease, Owner, OwnershipSnapshot
from bg_ingest.errors import TransactionConflict
from bg_ingest.ports.table import (
    Absent,
    Condition,
    ConditionFailed,
    Delete,
    Equals,
    Exists,
    Item,
    Put,
    Table,
    Update,
)
from bg_ingest.store import keys
from bg_ingest.store.conditional import value_condition, write_if_current
from bg_ingest.store.items import VERSION, VERSION_OK, StoredItem, build_item, is_newer, newer_version_error, read_range

SHARD_BATCH_SIZE, OWNER_BATCH_SIZE = 300, 100
"""All shards come in one answer: 16 KB."""

TRANSACTION_SIZE = 50
"""Shards taken or given back in one transaction; one that another process took only takes itself out of it."""

MAX_CONFLICTS, CONFLICT_PAUSE_SECONDS = 10, (0.05, 0.2)
"""How often a transaction may meet another, and seconds until it is tried again, by chance: so two meet but once."""

_FIRST, _LAST = " ", "~"

Element = TypeVar("Element")


class ShardAddresses:
    """Who serves which shard, as this process last saw it; it may be a look behind."""

    def __init__(self) -> None:
        self.own_id: str | None = None
        """Our own id, once we have a row."""
        self.leases: dict[int, Lease] = {}

    def publish_address(self, shard: int) -> str | None:
        """Return whom to ring for a committed change: nobody, where that is us or we serve nothing and know nobody."""
        lease = self.leases.get(shard)
        address = _owner_address(lease) if lease else None
        return None if self.own_id is None or address == self.own_id else address


class OwnershipStore:
    """Who serves which shard."""

    def __init__(self, table: Table, addresses: ShardAddresses) -> None:
        self._table = table
        self._addresses = addresses

    async def register(self, owner: Owner) -> None:
        """Write the row of a process that has none yet."""
        await self._table.write(Put(keys.owner(owner.id), _encode_owner(owner)))
        self._addresses.own_id = owner.id

    async def heartbeat(self, owner: Owner) -> None:
        """Replace our row; StaleRead when it is gone: somebody took us for dead."""
        await write_if_current(self._table, Put(keys.owner(owner.id), _encode_owner(owner), (Exists(), VERSION_OK)))

    async def remove_dead(self, seen: Owner) -> None:
        """Delete the row of a process that is dead; StaleRead when its beat has moved since."""
        await write_if_current(self._table, Delete(keys.owner(seen.id), (Equals("beat", seen.heartbeat),)))

    async def unregister(self, owner: str) -> None:
        """Delete our own row, whatever became of the last beat."""
        await self._table.write(Delete(keys.owner(owner)))

    async def snapshot(self) -> OwnershipSnapshot:
        """Read all shards, then all owners."""
        owned = {lease.shard: lease for lease in await self._leases()}
        leases = tuple(owned.get(shard, Lease(shard)) for shard in range(SHARDS))
        self._addresses.leases = dict(enumerate(leases))
        rows = await read_range(self._table, keys.OWNERS, _FIRST, _LAST, page=OWNER_BATCH_SIZE)
        return OwnershipSnapshot(leases, tuple(_decode_owner(key[1], item) for key, item in rows))

    async def take(self, seen: Sequence[Lease], owner: str) -> list[Lease]:
        """Take shards that are as seen, each under its next epoch; return those that were."""
        taken: list[Lease] = []
        for batch in _batches(seen):
            after = [Lease(lease.shard, lease.epoch + 1, owner, lease.owner or lease.previous) for lease in batch]
            with suppress(TransactionConflict):  # the next look shows who has them
                done = await self._write_unchanged([_take_write(a, b) for a, b in zip(batch, after, strict=True)])
                taken += [after[index] for index in done]
        self._addresses.leases.update({lease.shard: lease for lease in taken})
        return taken

    async def release(self, leases: Collection[Lease]) -> None:
        """Release shards that are ours under these epochs; who is not the owner changes nothing."""
        for batch in _batches(leases):
            await self._write_unchanged([_release_write(lease) for lease in batch])
        freed = {lease.shard: Lease(lease.shard, lease.epoch, None, lease.owner) for lease in leases}
        self._addresses.leases.update(freed)

    async def _leases(self) -> list[Lease]:
        rows = await read_range(self._table, keys.SHARDS, _FIRST, _LAST, page=SHARD_BATCH_SIZE)
        return [decode_lease(int(key[1]), item) for key, item in rows]

    async def _write_unchanged(self, writes: list[Update]) -> list[int]:
        """Write together all whose conditions hold; return their places. TransactionConflict if conflicts persist."""
        remaining, conflicts = dict(enumerate(writes)), 0
        while remaining:
            indexes = list(remaining)
            try:
                await self._table.transact(list(remaining.values()))
            except ConditionFailed as failed:
                if any(map(is_newer, failed.current.values())):
                    raise newer_version_error() from None
                for index in failed.current:
                    del remaining[indexes[index]]
            except TransactionConflict:  # others reach for some of them just now: soon it is known who has which
                conflicts += 1
                if conflicts == MAX_CONFLICTS:
                    raise
                await anyio.sleep(uniform(*CONFLICT_PAUSE_SECONDS))
            else:
                break
        return list(remaining)


def decode_lease(shard: int, item: StoredItem) -> Lease:
    return Lease(shard, item["epoch"], item.get("owner"), item.get("previous"))


def inbox_address(lease: Lease | None) -> str:
    return (lease and _owner_address(lease)) or UNOWNED


def _owner_address(lease: Lease) -> str | None:
    return lease.owner or lease.previous


def _take_write(seen: Lease, after: Lease) -> Update:
    """A row is made by its first owner; afterwards it only changes hands."""
    conditions: tuple[Condition, ...] = (Absent(),)
    if seen.epoch:
        conditions = (Exists(), VERSION_OK, Equals("epoch", seen.epoch), value_condition("owner", seen.owner))
    changed: Item = {"owner": after.owner or "", "epoch": after.epoch, "v": VERSION}
    previous = {"previous": after.previous} if after.previous else {}
    return Update(keys.shard(seen.shard), changed | previous, (), conditions)


def _release_write(ours: Lease) -> Update:
    owner = ours.owner or ""
    conditions = (Exists(), VERSION_OK, Equals("owner", owner), Equals("epoch", ours.epoch))
    return Update(keys.shard(ours.shard), {"previous": owner, "v": VERSION}, ("owner",), conditions)


def _encode_owner(owner: Owner) -> Item:
    return build_item(beat=owner.heartbeat, leaving=owner.leaving, demand=msgspec.msgpack.encode(owner.demand))


def _decode_owner(name: str, item: StoredItem) -> Owner:
    demand = msgspec.msgpack.decode(item["demand"], type=dict[str, float])
    return Owner(name, item["beat"], item["leaving"], demand)


def _batches(leases: Iterable[Element]) -> Iterable[list[Element]]:
    elements = list(leases)
    return (elements[index : index + TRANSACTION_SIZE] for index in range(0, len(elements), TRANSACTION_SIZE))
