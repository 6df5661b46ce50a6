"""Distribution of shards over processes: pure arithmetic over rows and the times of observation.

No wall-clock time decides ownership. An owner increments its heartbeat regularly. If another process reads an unchanged
heartbeat for a whole TTL on its own clock, the owner counts as dead. The epoch of a shard grows whenever it is taken,
and a commit with an earlier epoch is refused. A process that resumes after it counted as dead therefore overwrites
nothing of its successor.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import TypeAlias

import msgspec

from bg_ingest.domain.ids import SHARDS


class OwnershipTimings(msgspec.Struct, frozen=True, kw_only=True):
    """Timing of ownership, in seconds."""

    ttl: float = 15.0
    """A heartbeat unchanged for this long belongs to a dead process."""
    heartbeat_every: float = 5.0
    snapshot_every: float = 1.5
    """Time between reads of all owners and shards. A released shard is taken within this time."""
    inbox_every: float = 4.0
    """Time between reads of the requests addressed to this owner."""

    @property
    def valid_for(self) -> float:
        """Time after a heartbeat for which its sender may act as an owner. The sender stops before others take over."""
        return 0.9 * self.ttl


SHARED_TIMINGS = OwnershipTimings()
"""For a store that several processes may use."""

EXCLUSIVE_TIMINGS = OwnershipTimings(ttl=3600.0, heartbeat_every=900.0, snapshot_every=300.0, inbox_every=60.0)
"""For a store with only one process: no other process waits for a shard."""

UNOWNED = "nobody"
"""Address of requests for a shard that never had an owner. Its first owner reads them there."""


class Owner(msgspec.Struct, frozen=True):
    """Process that serves shards, as stored."""

    id: str
    heartbeat: int = 0
    leaving: bool = False
    """True while the process releases its shards and takes no more."""
    demand: Mapping[str, float] = {}
    """Calls per second that the process's connections need, for each budget (see ``domain/call_budget.py``)."""


class Lease(msgspec.Struct, frozen=True):
    """Assignment of a shard. ``owner`` is None after a release; with epoch 0 the shard never had an owner."""

    shard: int
    epoch: int = 0
    owner: str | None = None
    previous: str | None = None
    """Previous owner. Requests may still be addressed to it."""


class OwnershipSnapshot(msgspec.Struct, frozen=True):
    """All rows of one read. Shards are read before owners, so that no owner of a shard is missing."""

    leases: tuple[Lease, ...]
    """One for each shard, by number."""
    owners: tuple[Owner, ...]


Heartbeats: TypeAlias = Mapping[str, tuple[int, float]]
"""By owner id: the heartbeat, and the time at which this process first read it, on its own clock."""


class Rebalance(msgspec.Struct, frozen=True):
    """Steps of a process towards its fair share."""

    take: tuple[Lease, ...] = ()
    """Free shards as read. The write succeeds only if they are unchanged."""
    adopt: tuple[Lease, ...] = ()
    """Assigned to this process by the rows, but not served: the reply to its write was lost."""
    release: tuple[Lease, ...] = ()
    """Shards above the fair share: finish their work, then release them."""
    lost: tuple[int, ...] = ()
    """Assigned to another process: drop them at once."""


def track_heartbeats(before: Heartbeats, owners: Iterable[Owner], *, answered_at: float) -> Heartbeats:
    """Return each heartbeat with the time of the answer that first contained it."""
    return {
        owner.id: before[owner.id]
        if owner.id in before and before[owner.id][0] == owner.heartbeat
        else (owner.heartbeat, answered_at)
        for owner in owners
    }


def find_dead(
    heartbeats: Heartbeats, owners: Iterable[Owner], me: str, *, read_started_at: float, ttl: float
) -> list[Owner]:
    """Return the other owners with a heartbeat that was unchanged for a whole TTL before this read began."""
    return [
        owner
        for owner in owners
        if owner.id != me
        and owner.id in heartbeats
        and heartbeats[owner.id][0] == owner.heartbeat
        and read_started_at - heartbeats[owner.id][1] >= ttl
    ]


def fair_share(owners: Iterable[Owner], me: str, *, shards: int = SHARDS) -> int:
    """Return the share of ``me`` among the owners that are not leaving. Shares differ by at most one."""
    staying = sorted({owner.id for owner in owners if not owner.leaving})
    if me not in staying:
        return 0
    return shards // len(staying) + (staying.index(me) < shards % len(staying))


def plan_rebalance(
    snapshot: OwnershipSnapshot, me: str, serving: Mapping[int, int], leaving: Iterable[int] = ()
) -> Rebalance:
    """Compare the rows with the shards of this process.

    ``serving`` has the epoch of each shard that the process serves, ``leaving`` the shards that it is releasing.
    Each call plans all steps again from the rows. A lost reply is therefore harmless, because its step is repeated.
    """
    releasing = set(leaving)
    epochs = {lease.shard: lease.epoch for lease in snapshot.leases if lease.owner == me}
    lost = [shard for shard, epoch in serving.items() if epochs.get(shard) != epoch]
    ours = [lease for lease in snapshot.leases if lease.owner == me and lease.shard not in releasing]
    share = fair_share(snapshot.owners, me, shards=len(snapshot.leases))
    adopt = [lease for lease in ours[:share] if lease.shard not in serving or lease.shard in lost]
    take = _assign_free_shards(snapshot, me, releasing)
    return Rebalance(take, tuple(adopt), release=tuple(ours[share:]), lost=tuple(lost))


def _assign_free_shards(snapshot: OwnershipSnapshot, me: str, releasing: Collection[int]) -> tuple[Lease, ...]:
    """Return the free shards for ``me``.

    All owners below their share get free shards, in the order of the owner ids. Processes that read the same rows
    compute the same assignment, so that no two take the same shard.
    """
    alive = {owner.id for owner in snapshot.owners}
    free = [lease for lease in snapshot.leases if lease.owner not in alive and lease.shard not in releasing]
    shard_counts = Counter(lease.owner for lease in snapshot.leases)
    start = 0
    for owner_id in sorted({owner.id for owner in snapshot.owners if not owner.leaving}):
        deficit = max(0, fair_share(snapshot.owners, owner_id, shards=len(snapshot.leases)) - shard_counts[owner_id])
        if owner_id == me:
            return tuple(free[start : start + deficit])
        start += deficit
    return ()
