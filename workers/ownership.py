"""Shard ownership by lease: heartbeats, detection of dead owners, take-over and release of shards."""

from collections.abc import Callable, Collection
from contextlib import suppress
from secrets import token_hex

import anyio
import msgspec
import structlog
from anyio.abc import TaskGroup, TaskStatus

from bg_ingest.domain import ownership
from bg_ingest.domain.ownership import Lease, Owner, OwnershipSnapshot, OwnershipTimings
from bg_ingest.errors import StaleRead, StoreError, StoreUnavailable, TransactionConflict
from bg_ingest.services.budget.demand import Demand
from bg_ingest.store.ownership import OwnershipStore
from workers.handover import RETRY_SECONDS, OwnershipView, ShardConsumer, release, retry_until

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Ownership:
    """An actor that acquires this process's fair share of the shards and updates the view of them.

    Each round sends a heartbeat if it is due, reads owners and shards, and takes, drops or releases shards.
    """

    def __init__(
        self,
        store: OwnershipStore,
        view: OwnershipView,
        consumer: ShardConsumer,
        name: str,
        *,
        timings: OwnershipTimings,
        demand: Demand,
        inherit_requests: Callable[[Collection[Lease]], None],
    ) -> None:
        self._store = store
        self._view = view
        self._consumer = consumer
        self._name = name
        self._timings = timings
        self._demand = demand
        self._inherit_requests = inherit_requests
        self._seen_heartbeats: ownership.Heartbeats = {}
        self._unreachable = self._draining = False
        self._release_group: TaskGroup | None = None
        self._scope = anyio.CancelScope()

    @property
    def store_unreachable(self) -> bool:
        """Return True if the rows could not be read for so long that all shards were dropped."""
        return self._unreachable and not self._view.is_valid()

    async def __call__(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run rounds until cancelled. The actor has started once it has taken its share of the free shards."""
        view = self._view
        releasing = [shard for shard in view.serving if shard in view.released_at]  # interrupted by a crash
        self._consumer.cancel(releasing)
        for shard in releasing:
            del view.serving[shard]  # a round adopts it again if the rows still name this owner
        view.released_at.clear()
        async with anyio.create_task_group() as self._release_group:
            await self._run_round()
            task_status.started()
            while True:
                await anyio.sleep(self._seconds_to_next())
                if self._draining:
                    await anyio.sleep_forever()
                try:
                    await self._run_round()
                except (StoreUnavailable, TransactionConflict) as error:
                    if not self._unreachable:
                        log.warning("cannot keep up ownership", action="ownership_unreachable", error=str(error))
                    self._unreachable = True
                else:
                    if self._unreachable:
                        log.info("keeps up ownership again", action="ownership_recovered")
                    self._unreachable = False

    async def drain(self) -> None:
        """Take no more shards, release every shard once it is idle, and delete the row of this owner."""
        self._draining = True
        self._scope.cancel()  # a running round might take more
        owner = self._view.owner
        if owner is None:
            return
        async with anyio.create_task_group() as group:
            group.start_soon(self._announce_leaving, owner, name="announce leaving")
            await release(list(self._view.serving.values()), self._store, self._consumer, self._view)
            group.cancel_scope.cancel()
        await retry_until(lambda: self._store.unregister(owner.id))

    async def _announce_leaving(self, owner: Owner) -> None:
        """Mark this owner as leaving at once, and keep its heartbeat alive while shards are released."""
        while True:
            owner = msgspec.structs.replace(owner, heartbeat=owner.heartbeat + 1, leaving=True)
            try:
                await self._store.heartbeat(owner)
            except StaleRead:  # declared dead
                return
            except StoreError:
                await anyio.sleep(RETRY_SECONDS)
            else:
                await anyio.sleep(self._timings.heartbeat_every)

    def _seconds_to_next(self) -> float:
        """Return the seconds until the next round, or until ownership expires if that is earlier."""
        if not self._view.serving:
            return self._timings.snapshot_every
        remaining = self._view.heartbeat_sent_at + self._timings.valid_for - anyio.current_time()
        return min(self._timings.snapshot_every, max(0.0, remaining))

    async def _run_round(self) -> None:
        """Send a heartbeat if it is due, then refresh. The round is cancelled when ownership expires."""
        if not self._view.is_valid():
            self._drop_all()
        with anyio.CancelScope() as self._scope:
            if self._view.serving:
                self._scope.deadline = self._view.heartbeat_sent_at + self._timings.valid_for
            await self._heartbeat()
            self._scope.deadline = self._view.heartbeat_sent_at + self._timings.valid_for
            await self._refresh()
        if self._scope.cancelled_caught and not self._draining:
            self._drop_all()
            raise StoreUnavailable("the store did not answer in time")

    def _drop_all(self) -> None:
        """Stop serving all shards immediately, without a release of their rows."""
        shards = list(self._view.serving)
        if shards:
            log.warning(
                "dropped all shards, because others may have taken them", action="shards_lost", shards=len(shards)
            )
        self._consumer.cancel(shards)
        self._store.forget_addresses(shards)
        self._view.serving.clear()
        self._view.released_at.clear()

    async def _heartbeat(self) -> None:
        now = anyio.current_time()
        if self._view.owner is not None and now - self._view.heartbeat_sent_at < self._timings.heartbeat_every:
            return
        if self._view.owner is not None:
            # Each attempt has a new number. If an unanswered attempt were repeated with the same number, this process
            # would date its heartbeat by the second attempt, but the others by the first, which changed the number.
            self._view.owner = msgspec.structs.replace(
                self._view.owner, heartbeat=self._view.owner.heartbeat + 1, demand=self._demand.to_publish()
            )
            try:
                await self._store.heartbeat(self._view.owner)
            except StaleRead:  # declared dead: this owner id must not be used any more
                self._view.owner = None
                self._drop_all()
            else:
                self._view.heartbeat_sent_at = now
        if self._view.owner is None:
            owner = Owner(f"{self._name}-{token_hex(4)}", demand=self._demand.to_publish())
            await self._store.register(owner)
            self._view.owner, self._view.heartbeat_sent_at = owner, now

    async def _refresh(self) -> None:
        owner = self._view.owner
        if owner is None:
            return
        read_started_at = anyio.current_time()
        snapshot = await self._store.snapshot()
        dead = ownership.find_dead(
            self._seen_heartbeats, snapshot.owners, owner.id, read_started_at=read_started_at, ttl=self._timings.ttl
        )
        self._seen_heartbeats = ownership.track_heartbeats(
            self._seen_heartbeats, snapshot.owners, answered_at=anyio.current_time()
        )
        for dead_owner in dead:
            snapshot = await self._remove_dead(snapshot, dead_owner)
        if self._draining:  # nothing would release a shard taken now
            return
        self._view.snapshot = snapshot
        self._demand.update_others([other.demand for other in snapshot.owners if other.id != owner.id])
        if owner.id not in {other.id for other in snapshot.owners}:  # declared dead
            self._view.heartbeat_sent_at = float("-inf")
            return
        serving = {shard: lease.epoch for shard, lease in self._view.serving.items()}
        rebalance = ownership.plan_rebalance(snapshot, owner.id, serving, self._view.unconfirmed(read_started_at))
        if rebalance.lost:
            log.warning("other processes took shards", action="shards_lost", shards=len(rebalance.lost))
            self._consumer.cancel(rebalance.lost)
        for shard in rebalance.lost:
            del self._view.serving[shard]
        self._serve(rebalance.adopt)
        taken = await self._store.take(rebalance.take, owner.id) if rebalance.take else []
        if self._draining:  # the shards taken are free again once the row of this owner is deleted
            return
        self._serve(taken)
        if rebalance.release and self._release_group is not None:
            log.info("releasing shards", action="shards_released", shards=len(rebalance.release))
            self._view.mark_releasing(lease.shard for lease in rebalance.release)
            self._release_group.start_soon(
                release, rebalance.release, self._store, self._consumer, self._view, name="release shards"
            )

    async def _remove_dead(self, snapshot: OwnershipSnapshot, dead: Owner) -> OwnershipSnapshot:
        with suppress(StaleRead):  # its heartbeat has changed, or another process has deleted the row
            await self._store.remove_dead(dead)
            log.warning("another process died; its shards are free", action="owner_died", owner=dead.id)
            return msgspec.structs.replace(
                snapshot, owners=tuple(owner for owner in snapshot.owners if owner.id != dead.id)
            )
        return snapshot

    def _serve(self, taken: Collection[Lease]) -> None:
        if taken:
            self._view.serving.update({lease.shard: lease for lease in taken})
            self._consumer.add_shards(taken)
            self._inherit_requests(taken)
            log.info("took shards", action="shards_taken", shards=len(taken), serving=len(self._view.serving))
