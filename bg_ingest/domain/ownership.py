"""Distribution of shards over processes: pure arithmetic over rows and the times of observation.

No wall-clock time decides ownership. An owner updates its heartbeat all the time; a heartbeat that stood still for a
whole TTL on the observer's own clock belongs to a dead process. The epoch of a shard grows whenever it is taken, and a
commit with an earlier epoch is refused: a process that was suspended until it counted as dead overwrites nothing of its
successor.
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
    """Time between reads of all owners and shards. A released shard is taken this soon."""
    inbox_every: float = 4.0
    """Time between reads of the requests addressed to this owner."""

    @property
    def valid_for(self) -> float:
        """Time for which the sender of a heartbeat may act as an owner. It is shorter than the TTL of the observers."""
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
    """It releases everything and takes nothing more."""
    demand: Mapping[str, float] = {}
    """Calls per second needed by its connections, by budget (see ``domain/call_budget.py``)."""


class Lease(msgspec.Struct, frozen=True):
    """Assignment of a shard. ``owner`` is None after a release; with epoch 0 the shard never had an owner."""

    shard: int
    epoch: int = 0
    owner: str | None = None
    previous: str | None = None
    """Owner before. Requests may still be addressed to it."""


class OwnershipSnapshot(msgspec.Struct, frozen=True):
    """All rows of one read: the shards first, then the owners, so that no owner of a shard is missing."""

    leases: tuple[Lease, ...]
    """One for each shard, by number."""
    owners: tuple[Owner, ...]


Heartbeats: TypeAlias = Mapping[str, tuple[int, float]]
"""For each owner its heartbeat, and the time (own clock) at which it was first seen."""


class Rebalance(msgspec.Struct, frozen=True):
    """Steps of a process towards its fair share."""

    take: tuple[Lease, ...] = ()
    """Free shards, as seen: the write succeeds only if they are still free."""
    adopt: tuple[Lease, ...] = ()
    """Assigned to this process by the rows, but not served: the reply to its write was lost."""
    release: tuple[Lease, ...] = ()
    """More than its share: finish their work, then release them."""
    lost: tuple[int, ...] = ()
    """Assigned to another process: drop them at once."""


def track_heartbeats(before: Heartbeats, owners: Iterable[Owner], *, answered_at: float) -> Heartbeats:
    """Return the first sighting of each heartbeat: for a new one, the time of the answer that showed it."""
    return {
        owner.id: before[owner.id]
        if owner.id in before and before[owner.id][0] == owner.heartbeat
        else (owner.heartbeat, answered_at)
        for owner in owners
    }


def find_dead(
    heartbeats: Heartbeats, owners: Iterable[Owner], me: str, *, read_started_at: float, ttl: float
) -> list[Owner]:
    """Return the other owners with a heartbeat that stood still for a whole TTL before this read began."""
    return [
        owner
        for owner in owners
        if owner.id != me
        and owner.id in heartbeats
        and heartbeats[owner.id][0] == owner.heartbeat
        and read_started_at - heartbeats[owner.id][1] >= ttl
    ]


def fair_share(owners: Iterable[Owner], me: str, *, shards: int = SHARDS) -> int:
    """Return the number of shards for ``me`` if all owners that stay share them: shares differ by at most one."""
    staying = sorted({owner.id for owner in owners if not owner.leaving})
    if me not in staying:
        return 0
    return shards // len(staying) + (staying.index(me) < shards % len(staying))


def plan_rebalance(
    snapshot: OwnershipSnapshot, me: str, serving: Mapping[int, int], leaving: Iterable[int] = ()
) -> Rebalance:
    """Compare the rows with the shards served (with their epochs) and those being released.

    Each call plans all steps again from the rows. A lost reply is therefore harmless, because its step is repeated.
    """
    releasing = set(leaving)
    epochs = {lease.shard: lease.epoch for lease in snapshot.leases if lease.owner == me}
    lost = [shard for shard, epoch in serving.items() if epochs.get(shard) != epoch]
    ours = [lease for lease in snapshot.leases if lease.owner == me and lease.shard not in releasing]
    share = fair_share(snapshot.owners, me, shards=len(snapshot.leases))
    adopt = [lease for lease in ours[:share] if lease.shard not in serving or lease.shard in lost]
    take = _own_part_of_free(snapshot, me, releasing)
    return Rebalance(take, tuple(adopt), release=tuple(ours[share:]), lost=tuple(lost))


def _own_part_of_free(snapshot: OwnershipSnapshot, me: str, releasing: Collection[int]) -> tuple[Lease, ...]:
    """Return the free shards for ``me``, dealt in one order to all owners below their share.

    Processes that read the same rows compute the same assignment, so that no two take the same shard.
    """
    alive = {owner.id for owner in snapshot.owners}
    free = [lease for lease in snapshot.leases if lease.owner not in alive and lease.shard not in releasing]
    have = Counter(lease.owner for lease in snapshot.leases)
    start = 0
    for owner in sorted({each.id for each in snapshot.owners if not each.leaving}):
        deficit = max(0, fair_share(snapshot.owners, owner, shards=len(snapshot.leases)) - have[owner])
        if owner == me:
            return tuple(free[start : start + deficit])
        start += deficit
    return ()
