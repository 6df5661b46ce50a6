"""View of the shards that this process owns, in memory, and the release of shards.

Each shard is released once it is idle, so that its next owner does not wait for other shards.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import anyio
import structlog

from bg_ingest.domain.ownership import Lease, Owner, OwnershipSnapshot
from bg_ingest.errors import StoreError
from bg_ingest.store.ownership import OwnershipStore
from workers.wakeup import Wakeup

log: structlog.stdlib.BoundLogger = structlog.get_logger()

RELEASE_TIMEOUT = 3.0
"""Seconds in which a release is retried. Without a release, other processes take the shards after a TTL."""

RETRY_SECONDS = 0.2

NEVER = float("inf")


@dataclass
class OwnershipView:
    """Shards owned by this process. The ownership actor writes it, the other actors read it.

    The process acts as an owner only while its last confirmed heartbeat is younger than ``valid_for`` seconds: no
    other process can have declared it dead by then. The check reads only the monotonic clock. It does not depend on
    the progress of the ownership actor, so that it also holds after a suspension of the process.
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

    def count_shards(self) -> Counter[str]:
        """Count the shards of each owner: those of this process as served now, all others as in the last snapshot."""
        leases = self.snapshot.leases if self.snapshot else ()
        others = (lease for lease in leases if lease.shard not in self.serving and lease.owner != self.owner_id)
        counts = Counter(lease.owner for lease in others if lease.owner)
        if self.owner_id:
            counts[self.owner_id] = len(self.serving)
        return counts

    def mark_releasing(self, shards: Iterable[int]) -> None:
        self.released_at.update(dict.fromkeys(shards, NEVER))

    def unconfirmed(self, read_started_at: float) -> Collection[int]:
        """Return the shards whose rows may be outdated in a snapshot that was read from ``read_started_at`` on."""
        self.released_at = {shard: at for shard, at in self.released_at.items() if at > read_started_at}
        return self.released_at.keys()


async def retry_until(write: Callable[[], Awaitable[None]]) -> None:
    """Retry a write until it is stored, for at most ``RELEASE_TIMEOUT``."""
    problem = "no answer"
    with anyio.move_on_after(RELEASE_TIMEOUT):
        while True:
            try:
                await write()
            except StoreError as error:
                problem = str(error)
                await anyio.sleep(RETRY_SECONDS)
            else:
                return
    log.warning("release not stored: others take the shards after a TTL", action="release_unconfirmed", error=problem)


class ShardConsumer(Protocol):
    """Receiver of taken, lost and released shards."""

    def add_shards(self, taken: Collection[Lease]) -> None:
        """Start serving these shards."""

    def cancel(self, shards: Collection[int]) -> None:
        """Stop serving at once, because another process may own the shards."""

    async def finish(self, shards: Collection[int]) -> None:
        """Stop serving; return once no poll and no delivery of these shards runs here."""


async def release(
    leases: Collection[Lease], store: OwnershipStore, consumer: ShardConsumer, view: OwnershipView
) -> None:
    """Finish the work on shards and release each once it is idle; shards idle at the same time share one write."""
    view.mark_releasing(lease.shard for lease in leases)
    finished: list[Lease] = []
    remaining, wakeup = len(leases), Wakeup()

    async def finish(lease: Lease) -> None:
        await consumer.finish([lease.shard])
        finished.append(lease)
        wakeup.set()

    async with anyio.create_task_group() as group:
        for lease in leases:
            group.start_soon(finish, lease, name="finish shard")
        while remaining:
            await wakeup.wait(RELEASE_TIMEOUT)
            batch, finished[:] = finished[:], []
            remaining -= len(batch)
            # before the view changes, because a snapshot would otherwise list shards of this owner that are not served
            await retry_until(partial(store.release, batch))
            for lease in batch:
                if view.serving.get(lease.shard) == lease:
                    del view.serving[lease.shard]
                view.released_at[lease.shard] = anyio.current_time()
