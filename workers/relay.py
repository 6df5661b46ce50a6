"""When to tell: at a hint, at a start, and every minute in any case."""

from collections.abc import Collection, Iterable

import anyio
import structlog
from anyio.abc import TaskGroup, TaskStatus

from bg_ingest.domain.events import Change
from bg_ingest.domain.ids import shard_of
from bg_ingest.errors import BrokerUnavailable, StoreError
from bg_ingest.ports import Pending
from bg_ingest.services.relay import Relay, Told
from workers.backoff import Backoff
from workers.bell import Bell

log: structlog.stdlib.BoundLogger = structlog.get_logger()

EVERY = 60.0
"""Seconds between looks at every outbox: it finds what a lost hint, a refusal or another process left there."""

AT_ONCE = 8
"""Shards told at the same time: a burst over many users is then as fast as the broker, not one store call at a time."""

MOST_AT_HAND = 500
"""Changes kept in memory between their commit and their telling, of 80 KB at most; the rest is read back."""

REST_WITHIN = 2.0
"""Seconds left to telling when a shard is given back; what is not settled is told again by its next owner."""


class RelayActor:
    """Tells the outboxes of the shards it has, several at once, each by one pass at a time."""

    def __init__(self, relay: Relay, *, backoff: Backoff | None = None) -> None:
        self._relay = relay
        self._backoff = backoff or Backoff(first=1.0, ceiling=30.0)
        self._shards: set[int] = set()
        self._unseen: set[int] = set()
        """Nobody has looked yet whether anything waits there."""
        self._rung: set[int] = set()
        self._passes: dict[int, Pass] = {}
        self._at_hand: dict[int, dict[Pending, Change]] = {}
        self._kept = 0
        self._bell, self._taken = Bell(), Bell()
        self.failures = 0
        """Times in a row that the broker or the store did not let us finish."""
        self._resume_at = 0.0
        self._moved = anyio.Event()
        self._refusing: set[int] = set()

    @property
    def backlog(self) -> int:
        """How many of our shards are known to have something to tell."""
        return len(self._rung | self._passes.keys())

    def take(self, shards: Collection[int]) -> None:
        """Tell these shards' outboxes from now on."""
        self._shards.update(shards)
        self._unseen.update(shards)
        self._taken.ring()

    def ring(self, shards: Iterable[int]) -> None:
        """Look into these shards' outboxes, as far as they are ours."""
        self._rung |= self._shards.intersection(shards)
        self._bell.ring()

    def told(self, changes: Iterable[Change]) -> None:
        """Take the hint that changes were committed."""
        for change in changes:
            shard = shard_of(change.user)
            if shard not in self._shards:
                continue
            self._rung.add(shard)
            if self._kept < MOST_AT_HAND:
                self._at_hand.setdefault(shard, {})[Pending(shard, change.user, change.number)] = change
                self._kept += 1
        self._bell.ring()

    def drop(self, shards: Collection[int]) -> None:
        """Tell these shards' outboxes no more, and cut off passes over them."""
        self._leave(shards)
        for shard in self._passes.keys() & set(shards):
            self._passes[shard].scope.cancel()

    async def rest(self, shards: Collection[int]) -> None:
        """Tell once more what waits there, for a moment; then no more."""
        with anyio.move_on_after(REST_WITHIN):
            await self._settled(shards)
        self.drop(shards)
        for ended in [each.ended for shard, each in self._passes.items() if shard in shards]:
            await ended.wait()

    async def __call__(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Tell until cancelled."""
        places = anyio.Semaphore(AT_ONCE)
        async with anyio.create_task_group() as group:
            group.start_soon(self._look_around, name="looking what waits")
            task_status.started()
            while True:
                await self._bell.wait(float("inf"))
                await self._tell_rung(group, places)

    async def _look_around(self) -> None:
        """Look into outboxes that were taken, and into all every minute: also while nothing can be told."""
        look_at = anyio.current_time() + EVERY
        while True:
            await self._taken.wait(max(0.0, look_at - anyio.current_time()))
            if anyio.current_time() >= look_at:
                self._unseen |= self._shards
                look_at = anyio.current_time() + EVERY
            unseen, self._unseen = self._unseen, set()
            with anyio.move_on_after(EVERY / 2):
                await self._look(unseen)

    async def _look(self, shards: Collection[int]) -> None:
        try:
            waiting = await self._relay.waiting(shards)
        except StoreError:
            self.ring(shards)  # each finds out for itself
        else:
            self.ring(waiting | self._refusing)

    async def _tell_rung(self, group: TaskGroup, places: anyio.Semaphore) -> None:
        while ready := self._rung - self._passes.keys():
            await anyio.sleep(max(0.0, self._resume_at - anyio.current_time()))
            await places.acquire()
            shard = next(iter(ready & self._rung), None)
            if shard is None or self._resume_at > anyio.current_time():  # left, or broken, in the meantime
                places.release()
                continue
            self._rung.discard(shard)
            self._passes[shard] = Pass()
            group.start_soon(self._pass, shard, self._passes[shard], places, name="telling")

    async def _pass(self, shard: int, this: "Pass", places: anyio.Semaphore) -> None:
        at_hand = self._at_hand.pop(shard, {})
        self._kept -= len(at_hand)
        began = anyio.current_time()
        try:
            with this.scope:
                self._log(shard, await self._relay.tell(shard, at_hand))
        except (BrokerUnavailable, StoreError) as error:
            self._failed(shard, error, began)
        finally:
            del self._passes[shard]
            places.release()
            this.ended.set()
            self._moved.set()
            self._moved = anyio.Event()
            self._bell.ring()

    def _failed(self, shard: int, error: Exception, began: float) -> None:
        """Passes that ran side by side met the same trouble: it counts once."""
        self.ring([shard])
        if began < self._resume_at:
            return
        self.failures += 1
        self._resume_at = anyio.current_time() + self._backoff.delay(self.failures)
        if self.failures == 1:
            log.warning("cannot tell; changes wait", action="relay_stopped", error=type(error).__name__)

    async def _settled(self, shards: Collection[int]) -> None:
        """Return once nothing is known to wait in these shards, or telling is not possible now."""
        self._bell.ring()
        while not self.failures and (self._rung | self._passes.keys()).intersection(shards):
            await self._moved.wait()

    def _leave(self, shards: Collection[int]) -> None:
        self._shards.difference_update(shards)
        self._unseen.difference_update(shards)
        self._rung.difference_update(shards)
        self._refusing.difference_update(shards)
        for shard in shards:
            self._kept -= len(self._at_hand.pop(shard, {}))

    def _log(self, shard: int, told: Told) -> None:
        # an outbox with nothing to tell proves no broker; all of them without trouble do: nothing waits
        if self.failures and (told.settled or self.backlog == 1):
            log.info("telling again", action="relay_recovered", failures=self.failures)
            self.failures = 0
        refusing = bool(self._refusing)
        (self._refusing.add if told.refused else self._refusing.discard)(shard)
        if self._refusing and not refusing:
            log.error("the broker refuses events", action="events_refused", shard=shard, events=told.refused)
        elif refusing and not self._refusing:
            log.info("the broker refuses no event any more", action="events_accepted")


class Pass:
    """One look at one shard's outbox, under way."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.ended = anyio.Event()
