"""Hear the rings that were sent to this process, and those sent to whom it took shards from."""

from collections.abc import Callable, Collection

import anyio
import structlog
from anyio.abc import TaskStatus

from bg_ingest.domain.ids import shard_of
from bg_ingest.domain.leases import NOBODY, Lease
from bg_ingest.errors import StoreUnavailable
from bg_ingest.ports import Ring, Rings, Wish
from workers.bell import Bell
from workers.relay import RelayActor
from workers.scheduler import Scheduler

log: structlog.stdlib.BoundLogger = structlog.get_logger()

INHERITED_FOR = 20.0
"""Seconds for which rings to a shard's previous owner are read: longer than any process believes an old look."""


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
        self._bell = Bell()
        self._deaf = False

    def hurry(self) -> None:
        """Take the hint that a ring was just sent to us."""
        self._bell.ring()

    def inherit(self, taken: Collection[Lease]) -> None:
        """Read also what is sent to the previous owners of these shards, for a while."""
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

    async def _read_all(self) -> None:
        now = anyio.current_time()
        self._inherited = {name: until for name, until in self._inherited.items() if until > now}
        if me := self._me():
            rings = await self._rings.waiting(me)
            ours = [each for each in rings if self._heed(each)]
            await self._forget(ours)
            if astray := [each for each in rings if each not in ours]:
                await self._rings.send_on(astray)
        for previous in list(self._inherited):
            await self._forget([each for each in await self._rings.waiting(previous) if self._heed(each)])

    async def _forget(self, rings: Collection[Ring]) -> None:
        if rings:
            await self._rings.heard(rings)

    def _heed(self, ring: Ring) -> bool:
        """Do what a ring asks for, if its shard is ours: then it was heard."""
        shard = shard_of(ring.connection.user)
        epoch = self._epoch(shard)
        if epoch is None:
            return False
        self._relay.ring([shard])
        if ring.wish is Wish.LOOK:
            self._scheduler.ask(ring.connection, epoch=epoch)
        return True
