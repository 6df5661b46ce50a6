"""Hear the rings that were sent to this process, and those sent to whom it took shards from.

A look that was asked for lasts longer than this process may: its ring stays until the look was had. So whoever
takes the shard finds it, whether it was given back or we were killed.
"""

from collections.abc import Callable, Collection

import anyio
import structlog
from anyio.abc import TaskStatus

from bg_ingest.domain.ids import ConnectionId, shard_of
from bg_ingest.domain.leases import NOBODY, Lease
from bg_ingest.domain.outcomes import Ending
from bg_ingest.errors import StoreUnavailable
from bg_ingest.ports import Ring, Rings, Wish
from workers.bell import Bell
from workers.relay import RelayActor
from workers.scheduler import Scheduler

log: structlog.stdlib.BoundLogger = structlog.get_logger()

INHERITED_FOR = 20.0
"""Seconds for which rings to a shard's previous owner are read: longer than any process believes an old look."""

HAD = frozenset({Ending.READ, Ending.NOTHING_NEW, Ending.INACTIVE})
"""Ends of a turn after which nobody need look any more; after others it is tried again."""


class RingReader:
    """An actor that turns rings into looks and tellings here; one for a shard we gave away is sent on."""

    def __init__(
        self,
        rings: Rings,
        scheduler: Scheduler,
        relay: RelayActor,
        *,
        me: Callable[[], str | None],
        epoch: Callable[[int], int | None],
        every: float,
    ) -> None:
        self._rings = rings
        self._scheduler = scheduler
        self._relay = relay
        self._me = me
        self._epoch = epoch
        self._every = every
        self._inherited: dict[str, float] = {}
        self._name: str | None = None
        self._former: dict[str, float] = {}
        self._asked: dict[ConnectionId, set[Ring]] = {}
        self._had: set[Ring] = set()
        self._bell = Bell()
        self._deaf = False

    def hurry(self) -> None:
        """Take the hint that a ring was just sent to us."""
        self._bell.ring()

    def inherit(self, taken: Collection[Lease]) -> None:
        """Read also what is sent to the previous owners of these shards, for a while."""
        shards = {each.shard for each in taken}
        self._outdate(lambda shard: shard in shards)  # what was asked of their seats before went with these
        until = anyio.current_time() + INHERITED_FOR
        self._inherited |= {each.previous or NOBODY: until for each in taken}
        self._bell.ring()

    async def __call__(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Read rings until cancelled."""
        task_status.started()
        while True:
            soon = 1.0 if self._inherited else self._every
            await self._bell.wait(min(soon, self._every))
            try:
                await self._read_all()
            except StoreUnavailable:
                if not self._deaf:
                    log.warning("cannot read rings", action="rings_unreadable")
                self._deaf = True
            else:
                if self._deaf:
                    log.info("reads rings again", action="rings_readable")
                self._deaf = False

    def ended(self, connection: ConnectionId, ending: Ending) -> None:
        """Be told of a turn's end: the rings for a look that was had are forgotten at the next reading."""
        seat = self._scheduler.seats.get(connection)
        if connection in self._asked and ending in HAD and not (seat and seat.asked):
            self._had |= self._asked.pop(connection)

    async def _read_all(self) -> None:
        self._outdate(lambda shard: self._epoch(shard) is None)
        had, self._had = self._had, set()
        await self._forget(had)
        now, name = anyio.current_time(), self._me()
        if self._name and name != self._name:  # we were taken for dead, and may have been rung at since
            self._former[self._name] = now + INHERITED_FOR
        self._name = name
        self._former = {each: until for each, until in self._former.items() if until > now}
        self._inherited = {each: until for each, until in self._inherited.items() if until > now}
        for ours in filter(None, [name, *self._former]):
            rings = await self._rings.waiting(ours)
            await self._forget([each for each in rings if self._heed(each)])
            await self._rings.send_on([each for each in rings if self._epoch_for(each) is None])
        for previous in list(self._inherited):
            await self._forget([each for each in await self._rings.waiting(previous) if self._heed(each)])

    def _outdate(self, gone: Callable[[int], bool]) -> None:
        """Remember nothing any more of what was asked for in shards that went."""
        self._asked = {each: rings for each, rings in self._asked.items() if not gone(shard_of(each.user))}

    async def _forget(self, rings: Collection[Ring]) -> None:
        if rings:
            await self._rings.heard(rings)

    def _heed(self, ring: Ring) -> bool:
        """Do what a ring asks for, if its shard is ours; return whether it is done with."""
        epoch = self._epoch_for(ring)
        if epoch is None or ring in self._had:
            return epoch is not None
        if ring.wish is Wish.LOOK:
            asked = self._asked.setdefault(ring.connection, set())
            if ring in asked:
                return False
            asked.add(ring)
            self._scheduler.ask(ring.connection, epoch=epoch)
        self._relay.ring([shard_of(ring.connection.user)])
        return ring.wish is not Wish.LOOK

    def _epoch_for(self, ring: Ring) -> int | None:
        return self._epoch(shard_of(ring.connection.user))
