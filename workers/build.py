"""Put the actors of one process together, and tell how they are."""

from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

import anyio

from bg_ingest.domain.changes import Change
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.ownership import Lease
from bg_ingest.domain.polling import NextPollReason
from bg_ingest.domain.replica_status import ActorState, OwnerState, ReplicaStatus, UpcomingPoll
from bg_ingest.domain.timeline import NextPoll
from bg_ingest.services import Services
from workers.backoff import Backoff, CrashLimit
from workers.inbox import InboxReader
from workers.ownership import Ownership
from workers.periodic import AUDIT_SECONDS, ERASURE_SECONDS, KEY_USE_SECONDS, Periodic
from workers.provider_health import ProviderHealth
from workers.refresher import Refresher
from workers.relay import RelayActor
from workers.runtime import Actor, Runtime, RuntimeState
from workers.scheduler import Scheduler
from workers.shards import Shards
from workers.supervisor import Supervisor

TOKEN_STORAGE_SECONDS = 12.0
"""Seconds a drain leaves to a refresh under way: its answer is the one thing that cannot be had again."""

READINESS_ACTORS = frozenset({"scheduler", "shards", "inbox", "ownership"})
"""Actors without which nobody is polled here; while another is down, the rest goes on."""

UPCOMING_POLLS = 10
"""Shown in a report."""


class Workers:
    """The actors while they run: the ports Hints and Vitals of this process.

    A hint that comes while they do not run wakes nobody, and nothing is lost by that.
    """

    def __init__(self) -> None:
        self._actors: ActorTree | None = None

    @asynccontextmanager
    async def running(self, services: Services) -> AsyncIterator[None]:
        """Start the actors, and drain them on exit."""
        self._actors = ActorTree(services)
        async with self._actors.runtime.running():
            yield

    def wake_poller(self, connection: ConnectionId) -> None:
        del connection  # which one stands in the store
        if self._actors is not None:
            self._actors.inbox.wake()

    def wake_relay(self, changes: Sequence[Change]) -> None:
        if self._actors is not None:
            self._actors.relay.on_committed(changes)

    def shard_count(self) -> int:
        return len(self._actors.ownership.serving) if self._actors else 0

    def connection_count(self) -> int:
        return len(self._actors.scheduler.scheduled) if self._actors else 0

    def backfill_count(self) -> int:
        return (
            sum(each.state.backfill_pending for each in list(self._actors.scheduler.scheduled.values()))
            if self._actors
            else 0
        )

    def restarts(self) -> dict[str, int]:
        return {each.name: each.restarts for each in self._actors.supervisors} if self._actors else {}

    def newest_visible_at(self) -> dict[str, list[datetime]]:
        """Return by provider when the newest reading of each connection was shown; asked from any thread."""
        scheduled_connections = self._actors.scheduler.scheduled if self._actors else {}
        shown: dict[str, list[datetime]] = {}
        for connection in list(scheduled_connections):  # at once, whatever the loop does meanwhile
            scheduled = scheduled_connections.get(connection)
            if scheduled and scheduled.state.visible_at:
                shown.setdefault(connection.provider, []).append(scheduled.state.visible_at)
        return shown

    def next_poll(self, connection: ConnectionId) -> NextPoll | None:
        scheduled = self._actors.scheduler.scheduled.get(connection) if self._actors else None
        if scheduled is None:
            return None
        return NextPoll(
            scheduled.due,
            NextPollReason.REQUESTED if scheduled.requested else scheduled.state.reason,
            scheduled.state.failures,
        )

    def unready_reasons(self) -> list[str]:
        return self._actors.unready_reasons() if self._actors else [RuntimeState.STARTING.value]

    def degraded_parts(self) -> list[str]:
        return self._actors.degraded_parts() if self._actors else []

    def status(self) -> ReplicaStatus | None:
        return self._actors.status() if self._actors else None


class ActorTree:
    """One process's actors, joined."""

    def __init__(self, services: Services) -> None:
        self._grants = services.grants
        self._budget = services.budget
        self._demand = services.demand
        self._audit_log = services.audit_log
        self._broker = services.broker
        connections = services.store.connections
        self.relay = RelayActor(services.relay)
        self.scheduler = Scheduler(services.polls, services.clock)
        self._provider_health = ProviderHealth()
        self.shards = Shards(connections, self.scheduler, self.relay, services.clock)
        self.ownership = Ownership(
            services.store.ownership,
            self.shards,
            services.name,
            timings=services.timings,
            demand=services.demand.to_publish,
        )
        self.inbox = InboxReader(
            services.store.inbox,
            self.scheduler,
            self.relay,
            owner_id=lambda: self.ownership.owner_id,
            epoch=self.ownership.epoch,
            is_loaded=self.shards.is_loaded,
            interval=services.timings.inbox_every,
        )
        self.scheduler.poll_finished, self.scheduler.request_finished = (
            self._provider_health.record,
            self.inbox.poll_finished,
        )
        self.scheduler.may_poll = self.ownership.is_valid
        self.scheduler.demand_changed, self.shards.demand_for = (
            services.demand.change,
            services.demand.for_directory_row,
        )
        services.demand.others, services.demand.loaded_fraction = (
            self._other_demands,
            lambda: self.shards.loaded_fraction,
        )
        self.shards.on_take_over, self.shards.report_without_fetch = (
            self._prepare_take_over,
            services.poller.report_without_fetch,
        )
        actors: dict[str, Actor] = {
            "relay": self.relay,
            "scheduler": self.scheduler,
            "refresher": Refresher(connections, services.grants, services.clock, self.shards.iter_connections),
            "key uses": Periodic(KEY_USE_SECONDS, services.authenticator.write_key_uses),
            "shards": self.shards,
            "inbox": self.inbox,
            "auditor": Periodic(AUDIT_SECONDS, services.audit_log.flush, work=services.audit_log.wait),
            "eraser": Periodic(ERASURE_SECONDS, services.eraser.finish_unfinished, first_after=0.0),
            "ownership": self.ownership,  # last: then work begins
        }
        self.supervisors = [Supervisor(name, actor, crash_limit=CrashLimit()) for name, actor in actors.items()]
        if services.broker is not None:  # first, and for ever: a broker may be away for days
            self.supervisors.insert(
                0, Supervisor("broker", services.broker, backoff=Backoff(ceiling=30.0), crash_limit=None)
            )
        self.runtime = Runtime(self.supervisors, drain=self._drain)

    def _prepare_take_over(self, taken: Collection[Lease]) -> None:
        self._demand.prime()
        self.inbox.inherit(taken)

    def _other_demands(self) -> list[Mapping[str, float]]:
        """What the other processes want, as the last look found it."""
        snapshot = self.ownership.snapshot
        return [each.demand for each in snapshot.owners if each.id != self.ownership.owner_id] if snapshot else []

    async def _drain(self) -> None:
        self._grants.close(TOKEN_STORAGE_SECONDS)
        self._budget.close()
        await self.ownership.drain()
        with anyio.move_on_after(2.0):
            await self._audit_log.flush()

    def unready_reasons(self) -> list[str]:
        """The reasons, by name: the runtime's state, what serves and is down, shards that are ours and not served."""
        if self.runtime.state is not RuntimeState.RUNNING:
            return [self.runtime.state.value]
        down = [each.name for each in self.supervisors if not each.running and each.name in READINESS_ACTORS]
        reasons = {"ownership": self.ownership.store_unreachable, "shards": self.shards.load_overdue}
        return [*down, *(name for name, applies in reasons.items() if applies and name not in down)]

    def degraded_parts(self) -> list[str]:
        is_running = self.runtime.state is RuntimeState.RUNNING
        others_down = {
            each.name: is_running and not each.running for each in self.supervisors if each.name not in READINESS_ACTORS
        }
        broken = others_down | {
            "broker": self._broker is not None and not self._broker.connected,
            "publishing": self.relay.failures > 0,
        }
        providers = (
            self._provider_health.degraded_providers if self.scheduler.scheduled else []
        )  # who polls nobody cannot know any more
        return [*(name for name, is_broken in broken.items() if is_broken), *providers]

    def status(self) -> ReplicaStatus:
        snapshot = self.ownership.snapshot
        owned = Counter(lease.owner for lease in snapshot.leases) if snapshot else Counter()
        return ReplicaStatus(
            owner=self.ownership.owner_id,
            state=self.runtime.state.value,
            unready=tuple(self.unready_reasons()),
            degraded=tuple(self.degraded_parts()),
            shards=len(self.ownership.serving),
            shards_loading=self.shards.loading,
            owners=tuple(OwnerState(each.id, owned[each.id], each.leaving) for each in snapshot.owners)
            if snapshot
            else (),
            connections=len(self.scheduler.scheduled),
            polls_running=self.scheduler.polls_running,
            next_polls=tuple(UpcomingPoll(*each) for each in self.scheduler.next_due(UPCOMING_POLLS)),
            budgets=tuple(self._demand.states()),
            relay_backlog=self.relay.backlog,
            relay_failures=self.relay.failures,
            actors=tuple(ActorState(each.name, each.running, each.failures) for each in self.supervisors),
        )
