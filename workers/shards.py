"""What this process does with the shards it owns: seats for their connections, and their outboxes told."""

from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import aclosing
from datetime import timedelta
from typing import NamedTuple

import anyio
import structlog
from anyio.abc import TaskGroup, TaskStatus

from bg_ingest.domain.budget import Want
from bg_ingest.domain.connections import Connection, Listed
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.leases import Lease
from bg_ingest.domain.turns import Turn
from bg_ingest.errors import StoreUnavailable
from bg_ingest.ports import Clock, Connections
from workers.bell import Bell
from workers.relay import RelayActor
from workers.scheduler import Scheduler

log: structlog.stdlib.BoundLogger = structlog.get_logger()

AGAIN_AFTER = 5.0
"""Seconds after taking a shard until its directory is read again: who connected meanwhile may have rung elsewhere."""

RECONCILE_EVERY = 15 * 60.0
"""Seconds between full readings of a directory: hints may be lost, rows are not."""

RETRY_AFTER = 1.0

SERVED_WITHIN = 15.0
"""Seconds after taking a shard in which its connections should be seated; a hand-over makes nobody unready."""

READ_AT_ONCE = 8
"""Directories read at the same time."""

READ_TOGETHER = 50
"""Connections read by one call: few enough for the loop to have time for others in between."""

TURNS_PER_SECOND = 1_000
"""Of first turns after taking shards, which find out when the next looks are due."""

LONGEST_SPREAD = timedelta(seconds=120)

FORESEEN_WITHIN = timedelta(seconds=1)
"""After that a connection's first turn begins, whether it is foreseen by then or not."""


class Taking(NamedTuple):
    """When shards were taken, and how many at once."""

    at: float
    shards: int


class Shards:
    """Seats who is listed with the scheduler, and gives the relay its outboxes: a task for each shard we own.

    ``take``, ``drop`` and ``rest`` state what is owned; the actor makes it so, again after a crash of its own.
    """

    def __init__(self, connections: Connections, scheduler: Scheduler, relay: RelayActor, clock: Clock) -> None:
        self._connections = connections
        self._scheduler = scheduler
        self._relay = relay
        self._clock = clock
        self._owned: dict[int, Lease] = {}
        self._takings: dict[int, Taking] = {}
        self._tasks: dict[int, tuple[Lease, anyio.CancelScope]] = {}
        self._seated: set[int] = set()
        self._places = anyio.Semaphore(READ_AT_ONCE)
        self._bell = Bell()
        self._unreadable = False
        self.on_take: Callable[[Collection[Lease]], None] = lambda _: None
        """Told which shards were taken, and from whom."""
        self.want: Callable[[Listed], Want | None] = lambda _: None
        """What a connection wants, as far as its directory tells."""
        self.foreseen: Callable[[Connection], Turn | None] = lambda _: None
        """What is known before a connection's first turn: also when that is due, if it has nothing to ask yet."""

    def serves(self, shard: int) -> bool:
        """Whether the connections of a shard are seated, and no turn from before it was taken is under way."""
        return shard in self._seated

    @property
    def unserved(self) -> int:
        """How many shards we own whose connections are not seated yet."""
        return len(self._owned.keys() - self._seated)

    @property
    def seated(self) -> float:
        """What part of the shards we own has its connections seated; never nothing."""
        return max(1, len(self._seated)) / max(1, len(self._owned))

    @property
    def overdue(self) -> bool:
        """Whether any of them should have been by now."""
        latest = anyio.current_time() - SERVED_WITHIN
        return any(self._takings[shard].at < latest for shard in self._owned.keys() - self._seated)

    def take(self, taken: Collection[Lease]) -> None:
        """Serve these from now on."""
        self._owned.update({each.shard: each for each in taken})
        self._takings |= dict.fromkeys([each.shard for each in taken], Taking(anyio.current_time(), len(taken)))
        self.on_take(taken)
        self._bell.ring()

    def drop(self, shards: Collection[int]) -> None:
        """Stop serving at once, and cut off what is under way: it is somebody else's turn."""
        self._leave(shards)
        self._scheduler.drop(shards)
        self._relay.drop(shards)

    async def rest(self, shards: Collection[int]) -> None:
        """Stop serving; return when no turn is under way and what was told is settled, or given up."""
        self._leave(shards)
        await self._scheduler.rest(shards)
        await self._relay.rest(shards)

    async def __call__(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Keep a task for each shard we own, until cancelled."""
        self._tasks.clear()
        async with anyio.create_task_group() as group:
            task_status.started()
            while True:
                self._start_missing(group)
                await self._bell.wait(RECONCILE_EVERY)

    async def connections(self) -> AsyncGenerator[ConnectionId]:
        """Yield all connections listed in our shards, the paused ones too."""
        for shard in list(self._owned):
            async with aclosing(self._connections.listed(shard)) as rows:
                async for listed in rows:
                    if shard not in self._owned:
                        break
                    yield listed.id

    def _leave(self, shards: Collection[int]) -> None:
        for shard in shards:
            self._owned.pop(shard, None)
            self._takings.pop(shard, None)
            self._seated.discard(shard)
            if found := self._tasks.pop(shard, None):
                found[1].cancel()

    def _start_missing(self, group: TaskGroup) -> None:
        for shard, lease in self._owned.items():
            known = self._tasks.get(shard)
            if known is None or known[0] != lease:
                if known:
                    known[1].cancel()
                scope = anyio.CancelScope()
                self._tasks[shard] = lease, scope
                group.start_soon(self._serve, lease, scope, name=f"shard {shard}")

    async def _serve(self, lease: Lease, scope: anyio.CancelScope) -> None:
        with scope:
            await self._scheduler.quiet(lease.shard)  # of turns that we had when it was ours before
            self._relay.take([lease.shard])
            seated = await self._seat(lease)
            self._seated.add(lease.shard)
            taken_at = anyio.current_time()
            await self._foresee(lease, seated)
            await anyio.sleep_until(taken_at + AGAIN_AFTER)
            while True:
                await self._seat(lease)
                await anyio.sleep(RECONCILE_EVERY)

    async def _seat(self, lease: Lease) -> list[ConnectionId]:
        """Seat who is listed and not paused. Who is gone leaves at the next turn, which reads the connection."""
        while True:
            try:
                async with self._places:
                    seated = await self._read(lease)
            except StoreUnavailable:
                if not self._unreadable:
                    log.warning("cannot read the directory", action="directory_unreadable", shard=lease.shard)
                self._unreadable = True
                await anyio.sleep(RETRY_AFTER)
            else:
                if self._unreadable:
                    log.info("reads the directory again", action="directory_readable")
                self._unreadable = False
                return seated

    async def _read(self, lease: Lease) -> list[ConnectionId]:
        async with aclosing(self._connections.listed(lease.shard)) as rows:
            listed = [each async for each in rows if not each.paused]
        now = self._clock.now() + FORESEEN_WITHIN
        for each in listed:
            due = now + self._spread(lease, len(listed)) * each.id.jitter
            self._scheduler.seat(each.id, epoch=lease.epoch, due=due, want=self.want(each))
        return [each.id for each in listed]

    async def _foresee(self, lease: Lease, seated: Sequence[ConnectionId]) -> None:
        """Read a shard's connections together: first turns that come to nothing are not taken, the others at once."""
        turns: dict[ConnectionId, Turn] = {}
        try:
            for start in range(0, len(seated), READ_TOGETHER):
                async with self._places:
                    found = await self._connections.several(seated[start : start + READ_TOGETHER])
                turns |= {each.id: turn for each in found if (turn := self.foreseen(each))}
        except Exception:  # noqa: BLE001 - each has its first turn then, and says for itself what is wrong with it alone
            return
        due = {each: turn.due for each, turn in turns.items() if turn.due}
        now, spread = self._clock.now(), self._spread(lease, len(seated) - len(due))
        for each in seated:
            self._scheduler.foresee(each, due.get(each) or now + spread * each.jitter, turns.get(each))

    def _spread(self, lease: Lease, turns: int) -> timedelta:
        """Return over how long a shard's first turns are spread, that come with those of all taken together."""
        together = self._takings[lease.shard].shards if lease.shard in self._takings else 1
        return min(LONGEST_SPREAD, timedelta(seconds=turns * together / TURNS_PER_SECOND))
