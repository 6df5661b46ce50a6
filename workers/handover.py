"""Release of shards. Each is released once it is idle, so that its next owner need not wait for the others."""

from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Protocol

import anyio
import structlog

from bg_ingest.domain.ownership import Lease
from bg_ingest.errors import StoreError
from bg_ingest.store.ownership import OwnershipStore
from workers.ownership_view import NEVER, OwnershipView
from workers.wakeup import Wakeup

log: structlog.stdlib.BoundLogger = structlog.get_logger()

RELEASE_TIMEOUT = 3.0
"""Seconds in which a release is retried. Without it, other processes take the shards after a TTL."""

RETRY_SECONDS = 0.2


async def retry_until(write: Callable[[], Awaitable[None]]) -> None:
    """Retry a write until it is stored, for at most ``RELEASE_TIMEOUT``."""
    problem = "no answer"
    with anyio.move_on_after(RELEASE_TIMEOUT) as attempt:
        while True:
            try:
                await write()
                break
            except StoreError as error:
                problem = str(error)
                await anyio.sleep(RETRY_SECONDS)
    if attempt.cancelled_caught:
        log.warning(
            "release not stored: others take the shards after a TTL", action="release_unconfirmed", error=problem
        )


class ShardConsumer(Protocol):
    """Receiver of taken, lost and released shards."""

    def add_shards(self, taken: Collection[Lease]) -> None:
        """Start serving these shards."""

    def cancel(self, shards: Collection[int]) -> None:
        """Stop serving at once, because another process may own the shards."""

    async def finish(self, shards: Collection[int]) -> None:
        """Stop serving; return once no poll and no delivery of these shards runs here."""


class Handover:
    """Releases shards, and remembers recent releases, which a snapshot requested before them does not show."""

    def __init__(self, store: OwnershipStore, consumer: ShardConsumer, view: OwnershipView) -> None:
        self._store = store
        self._consumer = consumer
        self._view = view

    def unconfirmed(self, read_started_at: float) -> Collection[int]:
        """Return the shards whose rows may be outdated in a snapshot whose read started then."""
        released_at = self._view.released_at
        self._view.released_at = {shard: at for shard, at in released_at.items() if at > read_started_at}
        return self._view.released_at.keys()

    def mark_releasing(self, shards: Iterable[int]) -> None:
        self._view.released_at.update(dict.fromkeys(shards, NEVER))

    async def release(self, leases: Collection[Lease]) -> None:
        """Finish the work on shards and release each once it is idle; shards idle at the same time share one write."""
        self.mark_releasing(lease.shard for lease in leases)
        finished: list[Lease] = []
        remaining, wakeup = len(leases), Wakeup()

        async def finish(lease: Lease) -> None:
            await self._consumer.finish([lease.shard])
            finished.append(lease)
            wakeup.set()

        async with anyio.create_task_group() as group:
            for lease in leases:
                group.start_soon(finish, lease, name="finish shard")
            while remaining:
                await wakeup.wait(RELEASE_TIMEOUT)
                batch, finished[:] = finished[:], []
                remaining -= len(batch)
                await self._release_batch(batch)

    async def _release_batch(self, leases: Collection[Lease]) -> None:
        await retry_until(lambda: self._store.release(leases))  # else the next snapshot shows them as ours and unserved
        for lease in leases:
            if self._view.serving.get(lease.shard) == lease:
                del self._view.serving[lease.shard]
            self._view.released_at[lease.shard] = anyio.current_time()
