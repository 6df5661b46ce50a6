"""Give shards back: each as soon as it is quiet, so that its next owner need not wait for the others."""

from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Protocol

import anyio
import structlog

from bg_ingest.domain.leases import Lease
from bg_ingest.errors import StoreError
from bg_ingest.ports import Ownership as Rows
from workers.bell import Bell

log: structlog.stdlib.BoundLogger = structlog.get_logger()

PART_WITHIN = 3.0
"""Seconds for saying that shards are free; unsaid, others find out after a TTL."""

TRY_AGAIN = 0.2

NEVER = float("inf")


async def insist(write: Callable[[], Awaitable[None]]) -> None:
    """Try a write until it is stored, or for as long as others may be kept waiting for it."""
    problem = "no answer"
    with anyio.move_on_after(PART_WITHIN) as trying:
        while True:
            try:
                await write()
                break
            except StoreError as error:
                problem = str(error)
                await anyio.sleep(TRY_AGAIN)
    if trying.cancelled_caught:
        log.warning("could not say what is given up: others see it after a TTL", action="parting_unsaid", error=problem)


class Served(Protocol):
    """What is done with shards."""

    def take(self, taken: Collection[Lease]) -> None:
        """Serve these from now on."""

    def drop(self, shards: Collection[int]) -> None:
        """Stop at once: they are somebody else's."""

    async def rest(self, shards: Collection[int]) -> None:
        """Stop, and return when nothing of them is under way here."""


class Parting:
    """Shards on their way back, and those that just went: a look asked for before that does not know of it."""

    def __init__(self, rows: Rows, served: Served, gone: Callable[[Lease], None]) -> None:
        self._rows = rows
        self._served = served
        self._gone = gone
        self._done_at: dict[int, float] = {}

    def __contains__(self, shard: int) -> bool:
        return shard in self._done_at

    def unsettled(self, asked_at: float) -> Collection[int]:
        """Return the shards of which rows that were asked for then may tell what is no longer so."""
        self._done_at = {shard: at for shard, at in self._done_at.items() if at > asked_at}
        return self._done_at.keys()

    def begin(self, shards: Iterable[int]) -> None:
        self._done_at.update(dict.fromkeys(shards, NEVER))

    def forget(self) -> None:
        self._done_at.clear()

    async def give_back(self, ours: Collection[Lease]) -> None:
        """Bring shards to rest and give each back when it is quiet, those that are so at once together."""
        self.begin(each.shard for each in ours)
        quiet: list[Lease] = []
        left, bell = len(ours), Bell()

        async def rest(lease: Lease) -> None:
            await self._served.rest([lease.shard])
            quiet.append(lease)
            bell.ring()

        async with anyio.create_task_group() as group:
            for each in ours:
                group.start_soon(rest, each, name="coming to rest")
            while left:
                await bell.wait(PART_WITHIN)
                some, quiet[:] = quiet[:], []
                left -= len(some)
                await self._free(some)

    async def _free(self, rested: Collection[Lease]) -> None:
        await insist(lambda: self._rows.give_back(rested))  # else the next look finds them ours and unserved
        for each in rested:
            self._gone(each)
            self._done_at[each.shard] = anyio.current_time()
