"""What this process owns, as it is known in memory."""

from dataclasses import dataclass, field

import anyio

from bg_ingest.domain.ownership import Lease, Owner, OwnershipSnapshot

NEVER = float("inf")


@dataclass
class OwnershipView:
    """State of this process as an owner: ``Ownership`` and ``Handover`` write it, the other actors read it."""

    valid_for: float
    owner: Owner | None = None
    heartbeat_sent_at: float = float("-inf")
    """When the last beat that was answered had been sent."""
    serving: dict[int, Lease] = field(default_factory=dict)
    """The shards served here, also those that are being given back."""
    released_at: dict[int, float] = field(default_factory=dict)
    """Shards on their way back (``NEVER``), and those that just went."""
    snapshot: OwnershipSnapshot | None = None
    """What the last look found."""

    @property
    def owner_id(self) -> str | None:
        return self.owner.id if self.owner else None

    def is_valid(self) -> bool:
        """Whether what we serve is surely still ours."""
        return anyio.current_time() - self.heartbeat_sent_at < self.valid_for

    def epoch(self, shard: int) -> int | None:
        """Return the epoch under which a shard is served here; None when it is not, or no longer."""
        lease = self.serving.get(shard)
        return lease.epoch if lease and shard not in self.released_at else None
