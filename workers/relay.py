"""When to tell: at a hint, at a start, and every minute in any case."""

from collections.abc import Iterable

import anyio
import structlog
from anyio.abc import TaskStatus

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

MOST_AT_HAND = 500
"""Changes kept in memory between their commit and their telling, of 80 KB at most; the rest is read back."""


class RelayActor:
    """Tells the outboxes of the shards it has."""

    def __init__(self, relay: Relay, *, backoff: Backoff | None = None) -> None:
        self._relay = relay
        self._backoff = backoff or Backoff(first=1.0, ceiling=30.0)
        self._shards: set[int] = set()
        self._rung: set[int] = set()
        self._at_hand: dict[int, dict[Pending, Change]] = {}
        self._kept = 0
        self._bell = Bell()
        self.failures = 0
        """Passes in a row that the broker or the store did not let us finish."""
        self._stop = anyio.Event()
        self._ended = anyio.Event()
        self._refusing: set[int] = set()

    def take(self, shards: Iterable[int]) -> None:
        """Tell these shards' outboxes from now on."""
        fresh = set(shards) - self._shards
        self._shards |= fresh
        self._rung |= fresh
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

    async def __call__(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Tell until drained or cancelled."""
        task_status.started()
        self._ended = anyio.Event()
        try:
            look_at = anyio.current_time() + EVERY
            while not self._stop.is_set():
                await self._bell.wait(max(0.0, look_at - anyio.current_time()))
                if anyio.current_time() >= look_at:
                    self._rung |= self._shards
                    look_at = anyio.current_time() + EVERY
                if not await self._tell_rung():
                    with anyio.move_on_after(self._backoff.delay(self.failures)):
                        await self._stop.wait()
                    self._bell.ring()
        finally:
            self._ended.set()

    async def drain(self) -> None:
        """Tell once more what waits, then end."""
        self._stop.set()
        self._bell.ring()
        await self._ended.wait()
        await self._tell_rung()

    async def _tell_rung(self) -> bool:
        """Tell every rung shard; False when the broker or the store stands in the way."""
        while self._rung:
            shard = self._rung.pop()
            at_hand = self._at_hand.pop(shard, {})
            self._kept -= len(at_hand)
            try:
                told = await self._relay.tell(shard, at_hand)
            except (BrokerUnavailable, StoreError) as error:
                self._rung.add(shard)
                self.failures += 1
                if self.failures == 1:
                    log.warning("cannot tell; changes wait", action="relay_stopped", error=type(error).__name__)
                return False
            self._log(shard, told)
        return True

    def _log(self, shard: int, told: Told) -> None:
        # an outbox with nothing to tell proves no broker; all of them without trouble do: nothing waits
        if self.failures and (told.settled or not self._rung):
            log.info("telling again", action="relay_recovered", failures=self.failures)
            self.failures = 0
        refusing = bool(self._refusing)
        (self._refusing.add if told.refused else self._refusing.discard)(shard)
        if self._refusing and not refusing:
            log.error("the broker refuses events", action="events_refused", shard=shard, events=told.refused)
        elif refusing and not self._refusing:
            log.info("the broker refuses no event any more", action="events_accepted")
