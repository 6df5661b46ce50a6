"""Shards and owners: epoch-fenced assignment, and heartbeats."""

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from random import uniform
from typing import TypeVar

import anyio
import msgspec

from bg_ingest.domain.ids import SHARDS
from bg_ingest.domain.ownership import Lease, Owner, OwnershipSnapshot
from bg_ingest.errors import TransactionConflict
from bg_ingest.ports.table import Absent, ConditionFailed, Delete, Equals, Exists, Item, Put, StoredItem, Table, Update
from bg_ingest.store import items, keys
from bg_ingest.store.inbox import ShardAddresses

SHARD_BATCH_SIZE, OWNER_BATCH_SIZE = 300, 100
"""Rows per page. All shards come in one page of 16 KB."""

TRANSACTION_SIZE = 50
"""Shards per transaction. A shard that another process took is left out and the rest is tried again."""

MAX_CONFLICTS, CONFLICT_PAUSE_SECONDS = 10, (0.05, 0.2)
"""Conflicts after which a transaction is given up; bounds of the random pause before it is repeated."""

Element = TypeVar("Element")


class OwnershipStore:
    """Assignment of shards to owners, and the owners' heartbeats."""

    def __init__(self, table: Table, addresses: ShardAddresses) -> None:
        self._table = table
        self._addresses = addresses

    async def register(self, owner: Owner) -> None:
        """Create the row of this process under a new owner id."""
        await self._table.write(Put(keys.owner(owner.id), _encode_owner(owner)))
        self._addresses.register(owner.id)

    async def heartbeat(self, owner: Owner) -> None:
        """Replace the row of this process; StaleRead if another process declared this one dead and deleted its row."""
        await items.write_if_current(
            self._table, Put(keys.owner(owner.id), _encode_owner(owner), (Exists(), items.VERSION_OK))
        )

    async def remove_dead(self, seen: Owner) -> None:
        """Delete the row of a dead process; StaleRead if its heartbeat has changed, or the row is deleted already."""
        await items.write_if_current(self._table, Delete(keys.owner(seen.id), (Equals("beat", seen.heartbeat),)))

    async def unregister(self, owner: str) -> None:
        """Delete the row of this process, without a condition: the result of the last heartbeat may be unknown."""
        await self._table.write(Delete(keys.owner(owner)))

    async def snapshot(self) -> OwnershipSnapshot:
        """Read all shards, then all owners."""
        owned = {lease.shard: lease for lease in await self._leases()}
        leases = tuple(owned.get(shard, Lease(shard)) for shard in range(SHARDS))
        self._addresses.update(leases)
        rows = await items.read_range(self._table, keys.OWNERS, *keys.OWNER_RANGE, page=OWNER_BATCH_SIZE)
        return OwnershipSnapshot(leases, tuple(_decode_owner(key[1], item) for key, item in rows))

    async def take(self, seen: Sequence[Lease], owner: str) -> list[Lease]:
        """Take the shards that are unchanged since they were read, each with its epoch + 1; return the taken ones."""
        taken: list[Lease] = []
        for batch in _batches(seen):
            after = [Lease(lease.shard, lease.epoch + 1, owner, lease.owner or lease.previous) for lease in batch]
            with suppress(TransactionConflict):  # none of the batch is taken; the next snapshot shows the owners
                done = await self._write_unchanged([_take_write(a, b) for a, b in zip(batch, after, strict=True)])
                taken += [after[index] for index in done]
        self._addresses.update(taken)
        return taken

    async def release(self, leases: Collection[Lease]) -> None:
        """Release the shards that still have these owners and epochs. The other shards stay unchanged."""
        for batch in _batches(leases):
            await self._write_unchanged([_release_write(lease) for lease in batch])
        self._addresses.update(Lease(lease.shard, lease.epoch, None, lease.owner) for lease in leases)

    def forget_addresses(self, shards: Collection[int]) -> None:
        """Remove the addresses of shards from memory, because other processes may have taken the shards.

        The next request for such a shard reads its owner from the store.
        """
        self._addresses.update(Lease(shard) for shard in shards)

    async def _leases(self) -> list[Lease]:
        rows = await items.read_range(self._table, keys.SHARDS, *keys.OWNER_RANGE, page=SHARD_BATCH_SIZE)
        return [_decode_lease(int(key[1]), item) for key, item in rows]

    async def _write_unchanged(self, writes: list[Update]) -> list[int]:
        """Write, in one transaction, the updates whose conditions hold. Return their indexes.

        TransactionConflict if conflicts persist.
        """
        remaining, conflicts = dict(enumerate(writes)), 0
        while remaining:
            indexes = list(remaining)
            try:
                await self._table.transact(list(remaining.values()))
            except ConditionFailed as failed:
                if any(map(items.is_newer, failed.current.values())):
                    raise items.newer_version_error() from None
                for index in failed.current:
                    del remaining[indexes[index]]
            except TransactionConflict:  # another process is writing some shards; their conditions fail later
                conflicts += 1
                if conflicts == MAX_CONFLICTS:
                    raise
                await anyio.sleep(uniform(*CONFLICT_PAUSE_SECONDS))
            else:
                break
        return list(remaining)


def _decode_lease(shard: int, item: StoredItem) -> Lease:
    return Lease(shard, item["epoch"], item.get("owner"), item.get("previous"))


def _take_write(seen: Lease, after: Lease) -> Update:
    """Return the write of a taken shard. The first owner creates the row."""
    changed: Item = {"owner": after.owner or "", "epoch": after.epoch, "v": items.VERSION}
    changed |= {"previous": after.previous} if after.previous else {}
    if not seen.epoch:
        return Update(keys.shard(seen.shard), changed, (), (Absent(),))
    as_seen = (Equals("epoch", seen.epoch), items.value_condition("owner", seen.owner))
    return items.update_existing(keys.shard(seen.shard), changed, as_seen)


def _release_write(ours: Lease) -> Update:
    owner = ours.owner or ""
    conditions = (Equals("owner", owner), Equals("epoch", ours.epoch))
    return items.update_existing(keys.shard(ours.shard), {"previous": owner}, conditions, removed=("owner",))


def _encode_owner(owner: Owner) -> Item:
    return items.build_item(beat=owner.heartbeat, leaving=owner.leaving, demand=msgspec.msgpack.encode(owner.demand))


def _decode_owner(name: str, item: StoredItem) -> Owner:
    demand = msgspec.msgpack.decode(item["demand"], type=dict[str, float])
    return Owner(name, item["beat"], item["leaving"], demand)


def _batches(leases: Iterable[Element]) -> Iterable[list[Element]]:
    elements = list(leases)
    return (elements[index : index + TRANSACTION_SIZE] for index in range(0, len(elements), TRANSACTION_SIZE))
