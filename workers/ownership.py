"""Beat, look, take, keep, give back: which shards this process serves, among as many processes as there are."""

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from secrets import token_hex

import anyio
import msgspec
import structlog
from anyio.abc import TaskGroup, TaskStatus

from bg_ingest.domain import ownership
from bg_ingest.domain.ownership import Lease, Owner, OwnershipSnapshot, OwnershipTimings
from bg_ingest.errors import StaleRead, StoreError, StoreUnavailable, TransactionConflict
from bg_ingest.store.ownership import OwnershipStore
from workers.handover import RETRY_SECONDS, Handover, ShardConsumer, retry_until

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Ownership:
    """An actor that keeps this process's share of the shards.

    It acts as an owner only while the beat it last sent is young enough that nobody can have taken it for dead:
    ``holds`` says so by the clock alone, whatever this actor is waiting for.
    """

    def __init__(
        self,
        store: OwnershipStore,
        consumer: ShardConsumer,
        name: str,
        *,
        timings: OwnershipTimings,
        demand: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        self._store = store
        self._consumer = consumer
        self._name = name
        self._timings = timings
        self._demand = demand
        self._owner: Owner | None = None
        self._heartbeat_sent_at = float("-inf")
        """When the last beat that was answered had been sent."""
        self._serving: dict[int, Lease] = {}
        self._handover = Handover(store, consumer, self._on_released)
        self._seen_heartbeats: ownership.Heartbeats = {}
        self._unreachable = self._draining = False
        self._release_group: TaskGroup | None = None
        self._scope = anyio.CancelScope()
        self.snapshot: OwnershipSnapshot | None = None
        """What the last look found."""

    @property
    def owner_id(self) -> str | None:
        return self._owner.id if self._owner else None

    @property
    def serving(self) -> Mapping[int, Lease]:
        """The shards served here, also those that are being given back."""
        return self._serving

    @property
    def store_unreachable(self) -> bool:
        """Whether the rows could not be read for so long that we gave everything up."""
        return self._unreachable and not self.is_valid()

    def is_valid(self) -> bool:
        """Whether what we serve is surely still ours."""
        return anyio.current_time() - self._heartbeat_sent_at < self._timings.valid_for

    def epoch(self, shard: int) -> int | None:
        """Return the epoch under which a shard is served here; None when it is not, or no longer."""
        lease = self._serving.get(shard)
        return lease.epoch if lease and shard not in self._handover else None

    async def __call__(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Look and beat until cancelled; it has started when it has taken what was free."""
        releasing = [each for each in self._serving if each in self._handover]  # being brought to rest as we crashed
        self._consumer.cancel(releasing)
        for shard in releasing:
            del self._serving[shard]  # those that are still ours a look adopts anew
        self._handover.clear()
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
                    self._log_unreachable(error)
                else:
                    self._log_recovery()

    async def drain(self) -> None:
        """Take nothing more, give back every shard as soon as it is quiet, and take our name off the list."""
        self._draining = True
        self._scope.cancel()  # of a round under way, which might take more
        owner = self._owner
        if owner is None:
            return
        async with anyio.create_task_group() as group:
            group.start_soon(self._announce_leaving, owner, name="announce leaving")
            await self._handover.release(list(self._serving.values()))
            group.cancel_scope.cancel()
        await retry_until(lambda: self._store.unregister(owner.id))

    async def _announce_leaving(self, owner: Owner) -> None:
        """Say at once that nobody should count on us, and stay alive for the others while we give back."""
        while True:
            owner = msgspec.structs.replace(owner, heartbeat=owner.heartbeat + 1, leaving=True)
            try:
                await self._store.heartbeat(owner)
            except StaleRead:  # taken for dead
                return
            except StoreError:
                await anyio.sleep(RETRY_SECONDS)
            else:
                await anyio.sleep(self._timings.heartbeat_every)

    def _seconds_to_next(self) -> float:
        """Until the next look; shorter when we must give everything up before."""
        if not self._serving:
            return self._timings.snapshot_every
        remaining = self._heartbeat_sent_at + self._timings.valid_for - anyio.current_time()
        return min(self._timings.snapshot_every, max(0.0, remaining))

    async def _run_round(self) -> None:
        """Beat if it is time, look, and do what follows; all of it ends when what we serve may be taken from us."""
        if not self.is_valid():
            self._release_all()
        with anyio.CancelScope() as self._scope:
            if self._serving:
                self._scope.deadline = self._heartbeat_sent_at + self._timings.valid_for
            await self._heartbeat()
            self._scope.deadline = self._heartbeat_sent_at + self._timings.valid_for
            await self._refresh()
        if self._scope.cancelled_caught and not self._draining:
            self._release_all()
            raise StoreUnavailable("the store did not answer in time")

    def _release_all(self) -> None:
        """Stop serving everything, at once."""
        if self._serving:
            log.warning(
                "gave up all shards: the store was out of reach", action="shards_lost", shards=len(self._serving)
            )
        self._consumer.cancel(list(self._serving))
        self._serving.clear()
        self._handover.clear()

    async def _heartbeat(self) -> None:
        now = anyio.current_time()
        if self._owner is not None and now - self._heartbeat_sent_at < self._timings.heartbeat_every:
            return
        if self._owner is not None:
            # Each try is another beat. Were one whose answer is lost sent again as it was, we should count from an
            # answer to the second, and the others from the first: that is when they saw it move.
            self._owner = msgspec.structs.replace(
                self._owner, heartbeat=self._owner.heartbeat + 1, demand=self._demand()
            )
            try:
                await self._store.heartbeat(self._owner)
            except StaleRead:  # others took us for dead: under this name we may not act any more
                self._owner = None
                self._release_all()
            else:
                self._heartbeat_sent_at = now
        if self._owner is None:
            owner = Owner(f"{self._name}-{token_hex(4)}", demand=self._demand())
            await self._store.register(owner)
            self._owner, self._heartbeat_sent_at = owner, now

    async def _refresh(self) -> None:
        owner = self._owner
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
        for each in dead:
            snapshot = await self._remove_dead(snapshot, each)
        if self._draining:  # whatever would be taken up now, nobody would give back
            return
        self.snapshot = snapshot
        if owner.id not in {each.id for each in snapshot.owners}:  # taken for dead
            self._heartbeat_sent_at = float("-inf")
            return
        serving = {shard: each.epoch for shard, each in self._serving.items()}
        rebalance = ownership.plan_rebalance(snapshot, owner.id, serving, self._handover.unconfirmed(read_started_at))
        self._drop_lost(rebalance.lost)
        self._serve(rebalance.adopt)
        taken = await self._store.take(rebalance.take, owner.id) if rebalance.take else []
        if self._draining:  # what was taken is free again once our row is gone
            return
        self._serve(taken)
        if rebalance.release and self._release_group is not None:
            log.info("giving shards back", action="shards_released", shards=len(rebalance.release))
            self._handover.mark_releasing(each.shard for each in rebalance.release)
            self._release_group.start_soon(self._handover.release, rebalance.release, name="release shards")

    async def _remove_dead(self, snapshot: OwnershipSnapshot, dead: Owner) -> OwnershipSnapshot:
        with suppress(StaleRead):  # it lives
            await self._store.remove_dead(dead)
            log.warning("another process died; its shards are free", action="owner_died", owner=dead.id)
            return msgspec.structs.replace(
                snapshot, owners=tuple(each for each in snapshot.owners if each.id != dead.id)
            )
        return snapshot

    def _serve(self, taken: Collection[Lease]) -> None:
        if taken:
            self._serving.update({each.shard: each for each in taken})
            self._consumer.add_shards(taken)
            log.info("took shards", action="shards_taken", shards=len(taken), serving=len(self._serving))

    def _drop_lost(self, shards: Collection[int]) -> None:
        if shards:
            log.warning("shards were taken from us", action="shards_lost", shards=len(shards))
            self._consumer.cancel(shards)
        for shard in shards:
            del self._serving[shard]

    def _on_released(self, lease: Lease) -> None:
        if self._serving.get(lease.shard) == lease:
            del self._serving[lease.shard]

    def _log_unreachable(self, error: StoreError) -> None:
        if not self._unreachable:
            log.warning("cannot look after ownership", action="ownership_unreachable", error=str(error))
        self._unreachable = True

    def _log_recovery(self) -> None:
        if self._unreachable:
            log.info("looks after ownership again", action="ownership_recovered")
        self._unreachable = False
