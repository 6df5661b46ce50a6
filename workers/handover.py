"""Give shards back: each as soon as it is quiet, so that its next owner need not wait for the others."""

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
"""Seconds for saying that shards are free; unsaid, others find out after a TTL."""

RETRY_SECONDS = 0.2


async def retry_until(write: Callable[[], Awaitable[None]]) -> None:
    """Try a write until it is stored, or for as long as others may be kept waiting for it."""
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
            "could not say what is given up: others see it after a TTL", action="release_unconfirmed", error=problem
        )


class ShardConsumer(Protocol):
    """What is done with shards."""

    def add_shards(self, taken: Collection[Lease]) -> None:
        """Serve these from now on."""

    def cancel(self, shards: Collection[int]) -> None:
        """Stop at once: they are somebody else's."""

    async def finish(self, shards: Collection[int]) -> None:
        """Stop, and return when nothing of them is under way here."""


class Handover:
    """Shards on their way back, and those that just went: a look asked for before that does not know of it."""

    def __init__(self, store: OwnershipStore, consumer: ShardConsumer, view: OwnershipView) -> None:
        self._store = store
        self._consumer = consumer
        self._view = view

    def unconfirmed(self, read_started_at: float) -> Collection[int]:
        """Return the shards of which rows that were asked for then may tell what is no longer so."""
        released_at = self._view.released_at
        self._view.released_at = {shard: at for shard, at in released_at.items() if at > read_started_at}
        return self._view.released_at.keys()

    def mark_releasing(self, shards: Iterable[int]) -> None:
        self._view.released_at.update(dict.fromkeys(shards, NEVER))

    async def release(self, leases: Collection[Lease]) -> None:
        """Bring shards to rest and give each back when it is quiet, those that are so at once together."""
        self.mark_releasing(each.shard for each in leases)
        finished: list[Lease] = []
        remaining, wakeup = len(leases), Wakeup()

        async def finish(lease: Lease) -> None:
            await self._consumer.finish([lease.shard])
            finished.append(lease)
            wakeup.set()

        async with anyio.create_task_group() as group:
            for each in leases:
                group.start_soon(finish, each, name="finish shard")
            while remaining:
                await wakeup.wait(RELEASE_TIMEOUT)
                batch, finished[:] = finished[:], []
                remaining -= len(batch)
                await self._release_batch(batch)

    async def _release_batch(self, leases: Collection[Lease]) -> None:
        await retry_until(lambda: self._store.release(leases))  # else the next look finds them ours and unserved
        for each in leases:
            if self._view.serving.get(each.shard) == each:
                del self._view.serving[each.shard]
            self._view.released_at[each.shard] = anyio.current_time()
