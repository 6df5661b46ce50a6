"""When to tell: at a hint, at a start, and every minute in any case."""

from collections.abc import Collection, Iterable

import anyio
import structlog
from anyio.abc import TaskGroup, TaskStatus

from bg_ingest.domain.changes import Change
from bg_ingest.domain.ids import shard_of
from bg_ingest.errors import BrokerUnavailable, StoreError
from bg_ingest.ports import OutboxPass
from bg_ingest.services.publishing.relay import Relay
from bg_ingest.store.outbox import OutboxEntry
from workers.backoff import Backoff
from workers.wakeup import Wakeup

log: structlog.stdlib.BoundLogger = structlog.get_logger()

INTERVAL_SECONDS = 60.0
"""Seconds between looks at every outbox: it finds what a lost hint, a refusal or another process left there."""

MAX_CONCURRENT_PASSES = 8
"""Shards told at the same time: a burst over many users is then as fast as the broker, not one store call at a time."""

MAX_CACHED_CHANGES = 500
"""Changes kept in memory between their commit and their telling, of 80 KB at most; the rest is read back."""

FINISH_SECONDS = 2.0
"""Seconds left to telling when a shard is given back; what is not settled is told again by its next owner."""


class RelayActor:
    """Tells the outboxes of the shards it has, several at once, each by one pass at a time."""

    def __init__(self, relay: Relay, *, backoff: Backoff | None = None) -> None:
        self._relay = relay
        self._backoff = backoff or Backoff(first=1.0, ceiling=30.0)
        self._shards: set[int] = set()
        self._unchecked: set[int] = set()
        """Nobody has looked yet whether anything waits there."""
        self._requested: set[int] = set()
        self._passes: dict[int, RelayPass] = {}
        self._cached: dict[int, dict[OutboxEntry, Change]] = {}
        self._cached_count = 0
        self._wakeup, self._shards_added = Wakeup(), Wakeup()
        self.failures = 0
        """Times in a row that the broker or the store did not let us finish."""
        self._resume_at = 0.0
        self._pass_finished = anyio.Event()
        self._refusing: set[int] = set()

    @property
    def backlog(self) -> int:
        """How many of our shards are known to have something to tell."""
        return len(self._requested | self._passes.keys())

    def add_shards(self, shards: Collection[int]) -> None:
        """Tell these shards' outboxes from now on."""
        self._shards.update(shards)
        self._unchecked.update(shards)
        self._shards_added.set()

    def wake(self, shards: Iterable[int]) -> None:
        """Look into these shards' outboxes, as far as they are ours."""
        self._requested |= self._shards.intersection(shards)
        self._wakeup.set()

    def on_committed(self, changes: Iterable[Change]) -> None:
        """Take the hint that changes were committed."""
        for change in changes:
            shard = shard_of(change.user)
            if shard not in self._shards:
                continue
            self._requested.add(shard)
            if self._cached_count < MAX_CACHED_CHANGES:
                self._cached.setdefault(shard, {})[OutboxEntry(shard, change.user, change.number)] = change
                self._cached_count += 1
        self._wakeup.set()

    def cancel(self, shards: Collection[int]) -> None:
        """Tell these shards' outboxes no more, and cut off passes over them."""
        self._remove(shards)
        for shard in self._passes.keys() & set(shards):
            self._passes[shard].scope.cancel()

    async def finish(self, shards: Collection[int]) -> None:
        """Tell once more what waits there, for a moment; then no more."""
        with anyio.move_on_after(FINISH_SECONDS):
            await self._wait_settled(shards)
        self.cancel(shards)
        for finished in [each.finished for shard, each in self._passes.items() if shard in shards]:
            await finished.wait()

    async def __call__(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Tell until cancelled."""
        semaphore = anyio.Semaphore(MAX_CONCURRENT_PASSES)
        async with anyio.create_task_group() as group:
            group.start_soon(self._check_outboxes, name="check outboxes")
            task_status.started()
            while True:
                await self._wakeup.wait(float("inf"))
                await self._publish_requested(group, semaphore)

    async def _check_outboxes(self) -> None:
        """Look into outboxes that were taken, and into all every minute: also while nothing can be told."""
        check_at = anyio.current_time() + INTERVAL_SECONDS
        while True:
            await self._shards_added.wait(max(0.0, check_at - anyio.current_time()))
            if anyio.current_time() >= check_at:
                self._unchecked |= self._shards
                check_at = anyio.current_time() + INTERVAL_SECONDS
            unchecked, self._unchecked = self._unchecked, set()
            with anyio.move_on_after(INTERVAL_SECONDS / 2):
                await self._check(unchecked)

    async def _check(self, shards: Collection[int]) -> None:
        try:
            non_empty = await self._relay.non_empty_shards(shards)
        except StoreError:
            self.wake(shards)  # each finds out for itself
        else:
            self.wake(non_empty | self._refusing)

    async def _publish_requested(self, group: TaskGroup, semaphore: anyio.Semaphore) -> None:
        while ready := self._requested - self._passes.keys():
            await anyio.sleep(max(0.0, self._resume_at - anyio.current_time()))
            await semaphore.acquire()
            shard = next(iter(ready & self._requested), None)
            if shard is None or self._resume_at > anyio.current_time():  # left, or broken, in the meantime
                semaphore.release()
                continue
            self._requested.discard(shard)
            self._passes[shard] = RelayPass()
            group.start_soon(self._run_pass, shard, self._passes[shard], semaphore, name="publish shard")

    async def _run_pass(self, shard: int, relay_pass: "RelayPass", semaphore: anyio.Semaphore) -> None:
        cached = self._cached.pop(shard, {})
        self._cached_count -= len(cached)
        began = anyio.current_time()
        try:
            with relay_pass.scope:
                self._log_result(shard, await self._relay.publish_shard(shard, cached))
        except (BrokerUnavailable, StoreError) as error:
            self._record_failure(shard, error, began)
        finally:
            del self._passes[shard]
            semaphore.release()
            relay_pass.finished.set()
            self._pass_finished.set()
            self._pass_finished = anyio.Event()
            self._wakeup.set()

    def _record_failure(self, shard: int, error: Exception, began: float) -> None:
        """Passes that ran side by side met the same trouble: it counts once."""
        self.wake([shard])
        if began < self._resume_at:
            return
        self.failures += 1
        self._resume_at = anyio.current_time() + self._backoff.delay(self.failures)
        if self.failures == 1:
            log.warning("cannot tell; changes wait", action="relay_stopped", error=type(error).__name__)

    async def _wait_settled(self, shards: Collection[int]) -> None:
        """Return once nothing is known to wait in these shards, or telling is not possible now."""
        self._wakeup.set()
        while not self.failures and (self._requested | self._passes.keys()).intersection(shards):
            await self._pass_finished.wait()

    def _remove(self, shards: Collection[int]) -> None:
        self._shards.difference_update(shards)
        self._unchecked.difference_update(shards)
        self._requested.difference_update(shards)
        self._refusing.difference_update(shards)
        for shard in shards:
            self._cached_count -= len(self._cached.pop(shard, {}))

    def _log_result(self, shard: int, result: OutboxPass) -> None:
        # an outbox with nothing to tell proves no broker; all of them without trouble do: nothing waits
        if self.failures and (result.settled or self.backlog == 1):
            log.info("telling again", action="relay_recovered", failures=self.failures)
            self.failures = 0
        refusing = bool(self._refusing)
        (self._refusing.add if result.refused else self._refusing.discard)(shard)
        if self._refusing and not refusing:
            log.error("the broker refuses events", action="events_refused", shard=shard, events=result.refused)
        elif refusing and not self._refusing:
            log.info("the broker refuses no event any more", action="events_accepted")


class RelayPass:
    """One look at one shard's outbox, under way."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.finished = anyio.Event()
