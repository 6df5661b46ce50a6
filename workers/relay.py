"""Outbox relay actor: publishes after a wake-up, after a take-over and every minute."""

from collections.abc import Collection, Iterable

import anyio
import structlog
from anyio.abc import TaskGroup, TaskStatus

from bg_ingest.domain.changes import Change
from bg_ingest.domain.ids import shard_of
from bg_ingest.errors import BrokerUnavailable, StoreError
from bg_ingest.ports import OutboxPass
from bg_ingest.services.publishing.relay import Relay
from bg_ingest.store.changes import OutboxEntry
from workers.supervisor import Backoff
from workers.wakeup import RunningTask, Wakeup

log: structlog.stdlib.BoundLogger = structlog.get_logger()

INTERVAL_SECONDS = 60.0
"""Seconds between checks of every outbox, for changes left by a lost wake-up, a refusal or another process."""

MAX_CONCURRENT_PASSES = 8
"""Shards published at the same time. With fewer, a burst over many users would be limited by the latency of the store
instead of by the broker."""

MAX_CACHED_CHANGES = 500
"""Changes kept in memory between commit and publication, of at most 80 KB each; others are read from the store."""

FINISH_SECONDS = 2.0
"""Seconds left to deliveries when a shard is released. Its next owner publishes again the changes that are not
settled."""


class RelayActor:
    """Publishes the outboxes of its shards, several at once, each by one pass at a time."""

    def __init__(self, relay: Relay, *, backoff: Backoff | None = None) -> None:
        self._relay = relay
        self._backoff = backoff or Backoff(first=1.0, ceiling=30.0)
        self._shards: set[int] = set()
        self._unchecked: set[int] = set()
        """Shards with an outbox that is due for a check."""
        self._requested: set[int] = set()
        self._passes: dict[int, RunningTask] = {}
        self._cached: dict[int, dict[OutboxEntry, Change]] = {}
        self._cached_count = 0
        self._wakeup, self._shards_added = Wakeup(), Wakeup()
        self.failures = 0
        """Consecutive passes that failed at the broker or the store."""
        self._resume_at = 0.0
        self._pass_finished = anyio.Event()
        self._refusing: set[int] = set()

    @property
    def backlog(self) -> int:
        """Number of shards with unpublished changes, as far as is known."""
        return len(self._requested | self._passes.keys())

    @property
    def is_failing(self) -> bool:
        """True while changes wait because broker or store failed, or because the broker refuses events."""
        return self.failures > 0 or bool(self._refusing)

    def add_shards(self, shards: Collection[int]) -> None:
        self._shards.update(shards)
        self._unchecked.update(shards)
        self._shards_added.set()

    def wake(self, shards: Iterable[int]) -> None:
        """Publish the outboxes of these shards soon; shards that are not served here are ignored."""
        self._requested |= self._shards.intersection(shards)
        self._wakeup.set()

    def on_committed(self, changes: Iterable[Change]) -> None:
        """Publish committed changes soon, from memory where there is room."""
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
        """Stop publishing the outboxes of these shards and cancel their passes."""
        for served in (self._shards, self._unchecked, self._requested, self._refusing):
            served.difference_update(shards)
        for shard in shards:
            self._cached_count -= len(self._cached.pop(shard, {}))
        for shard in self._passes.keys() & set(shards):
            self._passes[shard].scope.cancel()

    async def finish(self, shards: Collection[int]) -> None:
        """Publish the waiting changes of these shards for at most ``FINISH_SECONDS`` or until a failure, then stop."""
        self._wakeup.set()
        with anyio.move_on_after(FINISH_SECONDS):
            while not self.failures and (self._requested | self._passes.keys()).intersection(shards):
                await self._pass_finished.wait()
        self.cancel(shards)
        for relay_pass in [running for shard, running in self._passes.items() if shard in shards]:
            await relay_pass.finished.wait()

    async def __call__(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        semaphore = anyio.Semaphore(MAX_CONCURRENT_PASSES)
        async with anyio.create_task_group() as group:
            group.start_soon(self._check_outboxes, name="check outboxes")
            task_status.started()
            while True:
                await self._wakeup.wait(float("inf"))
                await self._publish_requested(group, semaphore)

    async def _check_outboxes(self) -> None:
        """Check new outboxes at once and all of them every minute, also while the broker is unreachable."""
        check_at = anyio.current_time() + INTERVAL_SECONDS
        while True:
            await self._shards_added.wait(max(0.0, check_at - anyio.current_time()))
            if anyio.current_time() >= check_at:
                self._unchecked |= self._shards
                check_at = anyio.current_time() + INTERVAL_SECONDS
            unchecked, self._unchecked = self._unchecked, set()
            with anyio.move_on_after(INTERVAL_SECONDS / 2):
                try:
                    self.wake(await self._relay.non_empty_shards(unchecked) | self._refusing)
                except StoreError:
                    self.wake(unchecked)  # each pass reads its own outbox

    async def _publish_requested(self, group: TaskGroup, semaphore: anyio.Semaphore) -> None:
        while ready := self._requested - self._passes.keys():
            await anyio.sleep(max(0.0, self._resume_at - anyio.current_time()))
            await semaphore.acquire()
            shard = next(iter(ready & self._requested), None)
            if shard is None or self._resume_at > anyio.current_time():  # released, or a pass failed, in the meantime
                semaphore.release()
                continue
            self._requested.discard(shard)
            self._passes[shard] = RunningTask(shard)
            group.start_soon(self._run_pass, self._passes[shard], semaphore, name="publish shard")

    async def _run_pass(self, relay_pass: RunningTask, semaphore: anyio.Semaphore) -> None:
        shard, began = relay_pass.shard, anyio.current_time()
        cached = self._cached.pop(shard, {})
        self._cached_count -= len(cached)
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
        """Count a failure; concurrent passes that failed for the same reason count once."""
        self.wake([shard])
        if began < self._resume_at:
            return
        self.failures += 1
        self._resume_at = anyio.current_time() + self._backoff.delay(self.failures)
        if self.failures == 1:
            log.warning(
                "cannot publish; changes wait in the outbox", action="relay_stopped", error=type(error).__name__
            )

    def _log_result(self, shard: int, result: OutboxPass) -> None:
        # an empty outbox is no evidence of a reachable broker; if it was the last known backlog, no change waits
        if self.failures and (result.settled or self.backlog == 1):
            log.info("publishing again", action="relay_recovered", failures=self.failures)
            self.failures = 0
        refusing = bool(self._refusing)
        (self._refusing.add if result.refused else self._refusing.discard)(shard)
        if self._refusing and not refusing:
            log.error("the broker refuses events", action="events_refused", shard=shard, events=result.refused)
        elif refusing and not self._refusing:
            log.info("the broker accepts all events again", action="events_accepted")
