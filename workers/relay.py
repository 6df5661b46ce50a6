"""Outbox relay actor: publishes after commits, requests and take-overs, and again what was refused or failed."""

from collections.abc import Collection, Sequence
from contextlib import suppress

import anyio
import structlog
from anyio.abc import TaskGroup, TaskStatus

from bg_ingest.domain.changes import Change
from bg_ingest.domain.ids import UserId, shard_of
from bg_ingest.errors import BrokerUnavailable, StoreError
from bg_ingest.ports import OutboxPass
from bg_ingest.services.publishing.relay import CommittedChange, Relay
from bg_ingest.store.outbox import ShardDirectory
from workers.supervisor import Backoff
from workers.waiting_changes import WaitingChanges
from workers.wakeup import RunningTask, Wakeup

log: structlog.stdlib.BoundLogger = structlog.get_logger()

INTERVAL_SECONDS = 60.0
"""Seconds after which refused events are tried again, if no pass of their shard has tried them before."""

MAX_CONCURRENT_PASSES = 8
"""Shards published at the same time. With fewer, the latency of the store would limit a burst over many users."""

SEARCH_TIMEOUT, RETRY_SECONDS = 30.0, 1.0
"""Seconds after which the search of a directory is ended; seconds until it is repeated."""

FINISH_SECONDS = 2.0
"""Seconds left to deliveries when a shard is released. Its next owner repeats those not recorded as published."""


class RelayActor:
    """Publishes the changes of its shards, several shards at once, each by one pass at a time."""

    def __init__(self, relay: Relay, *, backoff: Backoff | None = None) -> None:
        self._relay = relay
        self._backoff = backoff or Backoff(first=1.0, ceiling=30.0)
        self._shards: set[int] = set()
        self._directories: dict[int, ShardDirectory] = {}
        """Directories that are not yet searched for unpublished changes."""
        self._unsearched: set[int] = set()
        """Shards that were not searched since they were taken. Their published numbers are not complete."""
        self._waiting = WaitingChanges()
        self._passes: dict[int, RunningTask] = {}
        self._refused: dict[int, set[UserId]] = {}
        self._wakeup, self._directory_read = Wakeup(), Wakeup()
        self.failures = 0
        """Consecutive passes that failed at the broker or the store."""
        self._resume_at = 0.0
        self._pass_finished = anyio.Event()

    @property
    def backlog(self) -> int:
        """Number of shards with unpublished changes, as far as is known."""
        return len(self._busy() | self._refused.keys())

    @property
    def is_failing(self) -> bool:
        """True while changes wait because broker or store failed, or because the broker refuses events."""
        return self.failures > 0 or bool(self._refused)

    def add_directory(self, shard: int, directory: ShardDirectory) -> None:
        """Serve a shard, and publish the unpublished changes of the users in its directory."""
        if shard not in self._shards:
            self._shards.add(shard)
            self._unsearched.add(shard)
        self._directories[shard] = directory
        self._directory_read.set()

    def wake(self, user: UserId) -> None:
        """Read and publish the unpublished changes of a user soon; ignored if the shard is not served here."""
        if (shard := shard_of(user)) in self._shards:
            self._waiting.add_users(shard, [user])
            self._wakeup.set()

    def on_committed(self, changes: Sequence[Change]) -> None:
        """Publish the changes of one user's commit soon, from memory where there is room."""
        if not changes or (shard := shard_of(changes[0].user)) not in self._shards:
            return
        self._waiting.add(shard, changes)
        self._wakeup.set()

    def cancel(self, shards: Collection[int]) -> None:
        """Stop publishing the changes of these shards and cancel their passes."""
        was_refused = bool(self._refused)
        self._shards.difference_update(shards)
        self._unsearched.difference_update(shards)
        for shard in shards:
            self._directories.pop(shard, None)
            self._refused.pop(shard, None)
            self._waiting.take(shard)
        for shard in self._passes.keys() & set(shards):
            self._passes[shard].scope.cancel()
        if not self._busy() & self._shards:  # no change waits for the end of a failure
            self._end_failure("the shards with waiting changes are not served here any more")
            self._resume_at = 0.0
        if was_refused and not self._refused:
            log.info("the shards with refused events are not served here any more", action="events_accepted")

    async def finish(self, shards: Collection[int]) -> None:
        """Publish for at most ``FINISH_SECONDS`` or until a failure, then stop, and write the published numbers."""
        self._wakeup.set()
        with anyio.move_on_after(FINISH_SECONDS):
            while not self.failures and self._busy().intersection(shards):
                await self._pass_finished.wait()
        self.cancel(shards)
        for relay_pass in [running for shard, running in self._passes.items() if shard in shards]:
            await relay_pass.finished.wait()
        with anyio.move_on_after(FINISH_SECONDS), suppress(StoreError):
            await self._relay.write_numbers(shards, only_due=False)
        self._relay.forget(shards)

    async def __call__(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        semaphore = anyio.Semaphore(MAX_CONCURRENT_PASSES, fast_acquire=True)
        async with anyio.create_task_group() as group:
            group.start_soon(self._search_directories, group, name="search directories")
            group.start_soon(self._run_every_minute, name="every minute")
            task_status.started()
            while True:
                await self._publish_waiting(group, semaphore)
                await self._wakeup.wait(float("inf"))

    async def _search_directories(self, group: TaskGroup) -> None:
        """Search added directories for unpublished changes, also while the broker is unreachable."""
        semaphore = anyio.Semaphore(MAX_CONCURRENT_PASSES)
        while True:
            while self._directories:
                await semaphore.acquire()
                if not self._directories:  # released in the meantime
                    semaphore.release()
                    break
                group.start_soon(self._search, *self._directories.popitem(), semaphore, name="search directory")
            await self._directory_read.wait(float("inf"))

    async def _search(self, shard: int, directory: ShardDirectory, semaphore: anyio.Semaphore) -> None:
        users: set[UserId] | None = None
        try:
            with anyio.move_on_after(SEARCH_TIMEOUT), suppress(StoreError):
                users = await self._relay.find_waiting(shard, directory, taken=shard in self._unsearched)
            if users is None:
                await anyio.sleep(RETRY_SECONDS)
        finally:
            semaphore.release()
            if users is None and shard in self._shards:
                self._directories.setdefault(shard, directory)
                self._directory_read.set()
        if users is None or shard not in self._shards:
            return
        self._unsearched.discard(shard)
        self._waiting.add_users(shard, users)
        if shard not in self._waiting.shards and shard not in self._passes:
            self._relay.report_empty(shard)
        self._wakeup.set()

    async def _run_every_minute(self) -> None:
        """Publish refused events again, report the shards without waiting changes, and write numbers that are due."""
        while True:
            await anyio.sleep(INTERVAL_SECONDS)
            for shard, users in self._refused.items():
                self._waiting.add_users(shard, users)
            self._wakeup.set()
            for shard in self._shards - self._waiting.shards - self._passes.keys() - self._unsearched:
                self._relay.report_empty(shard)
            with suppress(StoreError):
                await self._relay.write_numbers(list(self._shards), only_due=True)

    async def _publish_waiting(self, group: TaskGroup, semaphore: anyio.Semaphore) -> None:
        while ready := self._ready():
            if (wait := self._resume_at - anyio.current_time()) > 0:
                await anyio.sleep(wait)
            await semaphore.acquire()
            shard = next(iter(ready & self._ready()), None)
            if shard is None or self._resume_at > anyio.current_time():  # released, or a pass failed, in the meantime
                semaphore.release()
                continue
            self._passes[shard] = RunningTask(shard)
            group.start_soon(self._run_pass, self._passes[shard], semaphore, name="publish shard")

    def _busy(self) -> set[int]:
        return self._waiting.shards | self._passes.keys()

    def _ready(self) -> set[int]:
        return self._waiting.shards - self._passes.keys() - self._unsearched

    async def _run_pass(self, relay_pass: RunningTask, semaphore: anyio.Semaphore) -> None:
        shard, began, done = relay_pass.shard, anyio.current_time(), False
        # refused events are tried in each pass, so that every pass knows all that waits in its shard
        waiting = {user: list[CommittedChange]() for user in self._refused.get(shard, ())} | self._waiting.take(shard)
        try:
            with relay_pass.scope:
                self._log_result(shard, await self._relay.publish_shard(shard, waiting))
                done = True
        except (BrokerUnavailable, StoreError) as error:
            self._record_failure(error, began)
        finally:
            if not done and shard in self._shards:
                self._waiting.add_users(shard, waiting)
            del self._passes[shard]
            semaphore.release()
            relay_pass.finished.set()
            self._pass_finished.set()
            self._pass_finished = anyio.Event()
            self._wakeup.set()

    def _record_failure(self, error: Exception, began: float) -> None:
        """Count a failure; concurrent passes that failed for the same reason count once."""
        if began < self._resume_at:
            return
        self.failures += 1
        self._resume_at = anyio.current_time() + self._backoff.delay(self.failures)
        if self.failures == 1:
            reason = type(error).__name__
            log.warning("cannot publish; changes wait in the outbox", action="relay_stopped", error=reason)

    def _end_failure(self, text: str) -> None:
        if self.failures:
            log.info(text, action="relay_recovered", failures=self.failures)
            self.failures = 0

    def _log_result(self, shard: int, result: OutboxPass) -> None:
        # without a published change the broker may be unreachable; but if no other shard waits, nothing is delayed
        if result.settled or self._busy() == {shard}:
            self._end_failure("publishing again")
        refusing = bool(self._refused)
        self._refused.pop(shard, None)
        if result.refused_users:
            self._refused[shard] = result.refused_users
        if self._refused and not refusing:
            log.error("the broker refuses events", action="events_refused", shard=shard, events=result.refused)
        elif refusing and not self._refused:
            log.info("the broker accepts all events again", action="events_accepted")
