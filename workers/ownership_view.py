"""Shards that this process owns, in memory."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import anyio

from bg_ingest.domain.ownership import Lease, Owner, OwnershipSnapshot

NEVER = float("inf")


@dataclass
class OwnershipView:
    """Shards owned by this process. The ownership actor writes it, the other actors read it.

    The process acts as an owner only while its last confirmed heartbeat is younger than ``valid_for`` seconds: no
    other process can have declared it dead by then. The monotonic clock alone decides it, whatever the ownership actor
    waits for, so that it also holds after a suspension of the process.
    """

    valid_for: float
    owner: Owner | None = None
    heartbeat_sent_at: float = float("-inf")
    """Time at which the last confirmed heartbeat was sent."""
    serving: dict[int, Lease] = field(default_factory=dict)
    """Leases of the shards served here, those being released included."""
    released_at: dict[int, float] = field(default_factory=dict)
    """Time of release of recently released shards; ``NEVER`` for shards being released."""
    snapshot: OwnershipSnapshot | None = None
    """Last snapshot of owners and shards."""

    @property
    def owner_id(self) -> str | None:
        return self.owner.id if self.owner else None

    def is_valid(self) -> bool:
        """Return True while no other process can have taken the shards."""
        return anyio.current_time() - self.heartbeat_sent_at < self.valid_for

    def epoch(self, shard: int) -> int | None:
        """Return the epoch under which a shard is served here; None if it is not served, or is being released."""
        lease = self.serving.get(shard)
        return lease.epoch if lease and shard not in self.released_at else None

    def mark_releasing(self, shards: Iterable[int]) -> None:
        self.released_at.update(dict.fromkeys(shards, NEVER))

    def unconfirmed(self, read_started_at: float) -> Collection[int]:
        """Return the shards whose rows may be outdated in a snapshot whose read started then."""
        self.released_at = {shard: at for shard, at in self.released_at.items() if at > read_started_at}
        return self.released_at.keys()
