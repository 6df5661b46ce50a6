"""The port Ownership over a table, and where hints for a shard are to be sent."""

from collections.abc import Collection, Iterable, Sequence
from contextlib import aclosing, suppress
from random import uniform
from typing import TypeVar

import anyio
import msgspec

from bg_ingest.adapters.table import keys
from bg_ingest.adapters.table.guarded import Guarded, perform
from bg_ingest.adapters.table.protocol import (
    Absent,
    Condition,
    ConditionFailed,
    Delete,
    Equals,
    Exists,
    Item,
    Missing,
    Put,
    SingleWrite,
    Table,
    Update,
)
from bg_ingest.adapters.table.records import OURS, VERSION, Found, is_newer, item, newer
from bg_ingest.domain.ids import SHARDS
from bg_ingest.domain.leases import NOBODY, Board, Lease, Owner
from bg_ingest.errors import Conflicted, Outdated

SHARDS_PAGE, OWNERS_PAGE = 300, 100
"""All shards come in one answer: 16 KB."""

AT_ONCE = 50
"""Shards taken or given back in one transaction; one that another process took only takes itself out of it."""

MEETINGS, CONFLICT_PAUSE = 10, (0.05, 0.2)
"""How often a transaction may meet another, and seconds until it is tried again, by chance: so two meet but once."""

_FIRST, _LAST = " ", "~"

Each = TypeVar("Each")


class Addresses:
    """Who serves which shard, as this process last saw it; it may be a look behind."""

    def __init__(self) -> None:
        self.me: str | None = None
        """Our own id, once we have a row."""
        self.known: dict[int, Lease] = {}

    def tell(self, shard: int) -> str | None:
        """Return whom to ring for a committed change: nobody, where that is us or we serve nothing and know nobody."""
        lease = self.known.get(shard)
        address = _address(lease) if lease else None
        return None if self.me is None or address == self.me else address


class TableOwnership:
    def __init__(self, table: Table, addresses: Addresses) -> None:
        self._table = table
        self._addresses = addresses

    async def enter(self, owner: Owner) -> None:
        await self._table.write(Put(keys.owner(owner.id), _owner_item(owner)))
        self._addresses.me = owner.id

    async def beat(self, owner: Owner) -> None:
        await self._write(Put(keys.owner(owner.id), _owner_item(owner), (Exists(), OURS)))

    async def bury(self, seen: Owner) -> None:
        await self._write(Delete(keys.owner(seen.id), (Equals("beat", seen.beat),)))

    async def leave(self, owner: str) -> None:
        await self._table.write(Delete(keys.owner(owner)))

    async def board(self) -> Board:
        found = {lease.shard: lease for lease in await self._leases()}
        leases = tuple(found.get(shard, Lease(shard)) for shard in range(SHARDS))
        self._addresses.known = dict(enumerate(leases))
        async with aclosing(self._table.query(keys.OWNERS, _FIRST, _LAST, page=OWNERS_PAGE)) as pages:
            owners = tuple([_owner_of(key[1], each) async for page in pages for key, each in page])
        return Board(leases, owners)

    async def take(self, seen: Sequence[Lease], owner: str) -> list[Lease]:
        taken: list[Lease] = []
        for some in _groups(seen):
            wanted = [Lease(each.shard, each.epoch + 1, owner, each.owner or each.previous) for each in some]
            with suppress(Conflicted):  # the next look shows who has them
                done = await self._those_that_hold([_taking(a, b) for a, b in zip(some, wanted, strict=True)])
                taken += [wanted[place] for place in done]
        self._addresses.known.update({each.shard: each for each in taken})
        return taken

    async def give_back(self, leases: Collection[Lease]) -> None:
        for some in _groups(leases):
            await self._those_that_hold([_giving(each) for each in some])
        freed = {each.shard: Lease(each.shard, each.epoch, None, each.owner) for each in leases}
        self._addresses.known.update(freed)

    async def _leases(self) -> list[Lease]:
        async with aclosing(self._table.query(keys.SHARDS, _FIRST, _LAST, page=SHARDS_PAGE)) as pages:
            return [lease_of(int(key[1]), each) async for page in pages for key, each in page]

    async def _those_that_hold(self, writes: list[Update]) -> list[int]:
        """Write together all whose conditions hold; return their places. Conflicted, if others do so for long."""
        left, meetings = dict(enumerate(writes)), 0
        while left:
            places = list(left)
            try:
                await self._table.transact(list(left.values()))
            except ConditionFailed as failed:
                if any(map(is_newer, failed.met.values())):
                    raise newer() from None
                for place in failed.met:
                    del left[places[place]]
            except Conflicted:  # others reach for some of them just now: soon it is known who has which
                meetings += 1
                if meetings == MEETINGS:
                    raise
                await anyio.sleep(uniform(*CONFLICT_PAUSE))
            else:
                break
        return list(left)

    async def _write(self, one: SingleWrite) -> None:
        await perform(self._table, [Guarded(one, Outdated)])


def lease_of(shard: int, found: Found) -> Lease:
    return Lease(shard, found["epoch"], found.get("owner"), found.get("previous"))


def address_of(lease: Lease | None) -> str:
    return (lease and _address(lease)) or NOBODY


def _address(lease: Lease) -> str | None:
    return lease.owner or lease.previous


def _taking(seen: Lease, wanted: Lease) -> Update:
    """A row is made by its first owner; afterwards it only changes hands."""
    stands: tuple[Condition, ...] = (Absent(),)
    if seen.epoch:
        had = Missing("owner") if seen.owner is None else Equals("owner", seen.owner)
        stands = (Exists(), OURS, Equals("epoch", seen.epoch), had)
    changed: Item = {"owner": wanted.owner or "", "epoch": wanted.epoch, "v": VERSION}
    previous = {"previous": wanted.previous} if wanted.previous else {}
    return Update(keys.shard(seen.shard), changed | previous, (), stands)


def _giving(ours: Lease) -> Update:
    owner = ours.owner or ""
    conditions = (Exists(), OURS, Equals("owner", owner), Equals("epoch", ours.epoch))
    return Update(keys.shard(ours.shard), {"previous": owner, "v": VERSION}, ("owner",), conditions)


def _owner_item(owner: Owner) -> Item:
    return item(beat=owner.beat, leaving=owner.leaving, demand=msgspec.msgpack.encode(owner.demand))


def _owner_of(name: str, found: Found) -> Owner:
    demand = msgspec.msgpack.decode(found["demand"], type=dict[str, float])
    return Owner(name, found["beat"], found["leaving"], demand)


def _groups(leases: Iterable[Each]) -> Iterable[list[Each]]:
    every = list(leases)
    return (every[place : place + AT_ONCE] for place in range(0, len(every), AT_ONCE))
