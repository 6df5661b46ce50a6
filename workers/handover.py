"""Release of shards. Each is released once it is idle, so that its next owner need not wait for the others."""

from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import Protocol

import anyio
import structlog

from bg_ingest.domain.ownership import Lease
from bg_ingest.errors import StoreError
from bg_ingest.store.ownership import OwnershipStore
from workers.ownership_view import OwnershipView
from workers.wakeup import Wakeup

log: structlog.stdlib.BoundLogger = structlog.get_logger()

RELEASE_TIMEOUT = 3.0
"""Seconds in which a release is retried. Without it, other processes take the shards after a TTL."""

RETRY_SECONDS = 0.2


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
            await retry_until(partial(store.release, batch))  # else the next snapshot shows them as ours and unserved
            for lease in batch:
                if view.serving.get(lease.shard) == lease:
                    del view.serving[lease.shard]
                view.released_at[lease.shard] = anyio.current_time()
