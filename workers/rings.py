"""Hear the rings that were sent to this process, and those sent to whom it took shards from.

A look that was asked for may last longer than this process: its ring stays, under our name, until the look was had.
So whoever takes the shard from us finds it, whether it was given back or we were killed.
"""

from collections.abc import Callable, Collection

import anyio
import structlog
from anyio.abc import TaskStatus

from bg_ingest.domain.ids import ConnectionId, shard_of
from bg_ingest.domain.leases import NOBODY, Lease
from bg_ingest.errors import StoreError
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
        seated: Callable[[int], bool],
        every: float,
    ) -> None:
        """``epoch`` is that of a shard which is ours; ``seated`` tells whether its connections have their seats."""
        self._rings = rings
        self._scheduler = scheduler
        self._relay = relay
        self._me = me
        self._epoch = epoch
        self._seated = seated
        self._every = every
        self._inherited: dict[str, float] = {}
        self._name: str | None = None
        self._former: dict[str, float] = {}
        self._asked: dict[ConnectionId, Ring] = {}
        self._done: set[Ring] = set()
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
            except StoreError:
                if not self._deaf:
                    log.warning("cannot read rings", action="rings_unreadable")
                self._deaf = True
            else:
                if self._deaf:
                    log.info("reads rings again", action="rings_readable")
                self._deaf = False

    def looked(self, connection: ConnectionId) -> None:
        """Be told whose look was had: its ring is forgotten at the next reading."""
        if ring := self._asked.pop(connection, None):
            self._done.add(ring)

    async def _read_all(self) -> None:
        now, name = anyio.current_time(), self._me()
        if self._name and name != self._name:  # we were taken for dead, and may have been rung at since
            self._former[self._name] = now + INHERITED_FOR
        self._name = name
        self._former = {each: until for each, until in self._former.items() if until > now}
        self._inherited = {each: until for each, until in self._inherited.items() if until > now}
        self._outdate(lambda shard: self._epoch(shard) is None)
        if name is not None:
            rings = await self._rings.waiting(name)
            self._done |= {each for each in rings if self._is_ours(each) and self._heed(each)}
            await self._rings.send_on([each for each in rings if not self._is_ours(each)])
        for before in (self._former.keys() | self._inherited.keys()) - {name}:
            rings = await self._rings.waiting(before)
            ours = [each for each in rings if self._is_ours(each)]
            await self._rings.send_on(rings if before in self._former else ours)
            if ours:
                self._bell.ring()  # they stand under our name now
        done = set(self._done)  # last: where rows cannot be deleted, who rings is heard all the same
        await self._forget(done)
        self._done -= done

    def _outdate(self, gone: Callable[[int], bool]) -> None:
        """Remember nothing any more of what was asked for in shards that went."""
        self._asked = {each: ring for each, ring in self._asked.items() if not gone(shard_of(each.user))}

    async def _forget(self, rings: Collection[Ring]) -> None:
        if rings:
            await self._rings.heard(rings)

    def _is_ours(self, ring: Ring) -> bool:
        return self._epoch(shard_of(ring.connection.user)) is not None

    def _heed(self, ring: Ring) -> bool:
        """Do what a ring asks for; return whether it may be forgotten: of those for one look, all but the first."""
        shard, connection = shard_of(ring.connection.user), ring.connection
        epoch = self._epoch(shard)
        if epoch is None or not self._seated(shard) or ring in self._done or self._asked.get(connection) == ring:
            return False
        self._relay.ring([shard])
        if ring.wish is not Wish.LOOK:
            return True
        self._scheduler.ask(connection, epoch=epoch)
        return self._asked.setdefault(connection, ring) != ring
