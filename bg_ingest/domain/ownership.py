"""Which process serves which shards: pure arithmetic over what the rows say and what a process saw, and when.

No wall-clock time decides anything. A process that serves keeps its beat moving; who saw a beat stand still for a
whole TTL on its own clock takes that process for dead. A shard's epoch grows whenever it is taken, and a commit of an
earlier epoch is refused: so even a process that slept through its own death writes nothing over its successor.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import TypeAlias

import msgspec

from bg_ingest.domain.ids import SHARDS


class OwnershipTimings(msgspec.Struct, frozen=True, kw_only=True):
    """How fast ownership moves, in seconds."""

    ttl: float = 15.0
    """How long a beat may stand still before its process is taken for dead."""
    heartbeat_every: float = 5.0
    snapshot_every: float = 1.5
    """Between looks at all owners and shards: what was given back is taken this soon."""
    inbox_every: float = 4.0
    """Between looks at the rings addressed to us."""

    @property
    def valid_for(self) -> float:
        """How long after a beat was sent its sender may act as an owner: less than it takes others to give it up."""
        return 0.9 * self.ttl


SHARED_TIMINGS = OwnershipTimings()
"""For a store that several processes may use."""

EXCLUSIVE_TIMINGS = OwnershipTimings(ttl=3600.0, heartbeat_every=900.0, snapshot_every=300.0, inbox_every=60.0)
"""For a store that one process has to itself: there is nobody to be quick for."""


UNOWNED = "nobody"
"""Where rings for a shard that never had an owner go: whoever takes it first looks there."""


class Owner(msgspec.Struct, frozen=True):
    """A process that serves shards, as its row says."""

    id: str
    heartbeat: int = 0
    leaving: bool = False
    """It gives everything back and takes nothing more."""
    demand: Mapping[str, float] = {}
    """Calls per second its connections want, by budget (see ``domain/budget.py``)."""


class Lease(msgspec.Struct, frozen=True):
    """Who serves a shard. ``owner`` is None once it was given back; nobody ever had it while the epoch is 0."""

    shard: int
    epoch: int = 0
    owner: str | None = None
    previous: str | None = None
    """Who had it before: rings may still be addressed there."""


class OwnershipSnapshot(msgspec.Struct, frozen=True):
    """All rows as one look found them: the shards first, then the owners, so that no owner of a shard is missing."""

    leases: tuple[Lease, ...]
    """One for each shard, by its number."""
    owners: tuple[Owner, ...]


Heartbeats: TypeAlias = Mapping[str, tuple[int, float]]
"""For each owner its beat, and since when (own clock) it stands there."""


class Rebalance(msgspec.Struct, frozen=True):
    """What a look makes a process do."""

    take: tuple[Lease, ...] = ()
    """Free shards, as seen: the write holds only if they still are so."""
    adopt: tuple[Lease, ...] = ()
    """Ours by the rows, though we do not serve them: the reply to our write was lost."""
    release: tuple[Lease, ...] = ()
    """More than our share: bring them to rest, then give them back."""
    lost: tuple[int, ...] = ()
    """Somebody else's by now: leave them at once."""


def track_heartbeats(before: Heartbeats, owners: Iterable[Owner], *, answered_at: float) -> Heartbeats:
    """Return since when each beat stands: for a new one, since the answer that showed it came."""
    return {
        each.id: before[each.id]
        if each.id in before and before[each.id][0] == each.heartbeat
        else (each.heartbeat, answered_at)
        for each in owners
    }


def find_dead(
    heartbeats: Heartbeats, owners: Iterable[Owner], me: str, *, read_started_at: float, ttl: float
) -> list[Owner]:
    """Return the others whose beat, still the same in a look asked for then, stood still for a whole TTL."""
    return [
        each
        for each in owners
        if each.id != me
        and each.id in heartbeats
        and heartbeats[each.id][0] == each.heartbeat
        and read_started_at - heartbeats[each.id][1] >= ttl
    ]


def fair_share(owners: Iterable[Owner], me: str, *, shards: int = SHARDS) -> int:
    """Return how many shards are mine when all who stay share them: no two differ by more than one."""
    staying = sorted({each.id for each in owners if not each.leaving})
    if me not in staying:
        return 0
    return shards // len(staying) + (staying.index(me) < shards % len(staying))


def plan_rebalance(
    snapshot: OwnershipSnapshot, me: str, serving: Mapping[int, int], leaving: Iterable[int] = ()
) -> Rebalance:
    """Return what to do about the rows, given the shards we serve (with their epochs) and those we are leaving.

    Stating the goal anew at each look makes lost replies harmless: what did not happen is asked for again.
    """
    alive = {each.id for each in snapshot.owners}
    releasing = set(leaving)
    lost = [
        shard
        for shard, epoch in serving.items()
        if (snapshot.leases[shard].owner, snapshot.leases[shard].epoch) != (me, epoch)
    ]
    ours = [lease for lease in snapshot.leases if lease.owner == me and lease.shard not in releasing]
    adopt = [lease for lease in ours if lease.shard not in serving or lease.shard in lost]
    share = fair_share(snapshot.owners, me, shards=len(snapshot.leases))
    release = ours[share:]
    adopt = [each for each in adopt if each not in release]
    return Rebalance(_own_part_of_free(snapshot, me, alive, releasing), tuple(adopt), tuple(release), tuple(lost))


def _own_part_of_free(
    snapshot: OwnershipSnapshot, me: str, alive: Collection[str], releasing: Collection[int]
) -> tuple[Lease, ...]:
    """Return my part of the free shards, dealt in one order to all who are below their share.

    Everybody who saw the same rows deals alike, so no two reach for the same shard.
    """
    free = [lease for lease in snapshot.leases if lease.owner not in alive and lease.shard not in releasing]
    have = Counter(lease.owner for lease in snapshot.leases)
    start = 0
    for owner in sorted({each.id for each in snapshot.owners if not each.leaving}):
        deficit = max(0, fair_share(snapshot.owners, owner, shards=len(snapshot.leases)) - have[owner])
        if owner == me:
            return tuple(free[start : start + deficit])
        start += deficit
    return ()
