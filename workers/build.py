"""Actors of one process: construction, start, drain, wake-ups, and their state for health checks and metrics."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

import anyio

from bg_ingest.domain import replica_status
from bg_ingest.domain.call_budget import CallDemand
from bg_ingest.domain.changes import Change
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.polling import NextPollReason, Outcome
from bg_ingest.domain.replica_status import BrokerState
from bg_ingest.domain.timeline import NextPoll
from bg_ingest.services import Services
from workers.handover import OwnershipView
from workers.inbox import InboxReader, PollRequests
from workers.ownership import Ownership
from workers.periodic import AUDIT_SECONDS, ERASURE_SECONDS, KEY_USE_SECONDS, Periodic
from workers.provider_health import ProviderHealth
from workers.refresher import Refresher
from workers.relay import RelayActor
from workers.runtime import Actor, Runtime, RuntimeState
from workers.scheduler import Scheduler
from workers.shards import Shards
from workers.supervisor import Backoff, CrashLimit, Supervisor

TOKEN_STORAGE_SECONDS = 12.0
"""Seconds that a drain leaves to a running refresh, because a single-use refresh token cannot be exchanged again."""

READINESS_ACTORS = frozenset({"scheduler", "shards", "inbox", "ownership"})
"""Actors that polls depend on. While any other actor is down, polls continue."""

UPCOMING_POLLS = 10
"""Polls listed in a status report."""


class ActorTree:
    """Builds the actors in the order of their dependencies: view, scheduler, shards, inbox, ownership.

    As the listener of the scheduler it updates the call demand, the provider health and the poll requests.
    """

    def __init__(self, services: Services) -> None:
        self._services, self.broker = services, services.broker
        connections, clock, demand = services.store.connections, services.clock, services.demand
        self._poll_requests, self._provider_health = PollRequests(), ProviderHealth()
        self.view = OwnershipView(services.timings.valid_for)
        self.relay = RelayActor(services.relay)
        self.scheduler = Scheduler(services.poller, clock, self.view, listener=self)
        self.shards = Shards(services.store, self.scheduler, self.relay, clock, demand, services.poller)
        self.inbox = InboxReader(
            services.store.inbox,
            self.scheduler,
            self.relay,
            ownership=self.view,
            poll_requests=self._poll_requests,
            is_loaded=self.shards.is_loaded,
            interval=services.timings.inbox_every,
        )
        self.ownership = Ownership(
            services.store.ownership,
            self.view,
            self.shards,
            services.name,
            timings=services.timings,
            demand=demand,
            inherit_requests=self.inbox.inherit,
        )
        actors: dict[str, Actor] = {
            "relay": self.relay,
            "scheduler": self.scheduler,
            "refresher": Refresher(connections, services.grants, clock, self.shards.iter_connections),
            "key uses": Periodic(KEY_USE_SECONDS, services.authenticator.write_key_uses),
            "shards": self.shards,
            "inbox": self.inbox,
            "streams": services.event_hub,
            "auditor": Periodic(AUDIT_SECONDS, services.audit_log.flush, wait_for_work=services.audit_log.wait),
            "eraser": Periodic(ERASURE_SECONDS, services.eraser.finish_unfinished, first_after=0.0),
            "ownership": self.ownership,  # last, because polls begin once it has taken shards
        }
        self.supervisors = [Supervisor(name, actor, crash_limit=CrashLimit()) for name, actor in actors.items()]
        if services.broker is not None:  # first, and without a crash limit: a broker may be unreachable for days
            broker = Supervisor("broker", services.broker, backoff=Backoff(ceiling=30.0), crash_limit=None)
            self.supervisors.insert(0, broker)
        if services.hint_connection is not None:
            hints = Supervisor("hints", services.hint_connection, backoff=Backoff(ceiling=30.0), crash_limit=None)
            self.supervisors.insert(0, hints)
        self.runtime = Runtime(self.supervisors, drain=self._drain)

    def demand_changed(self, before: CallDemand | None, after: CallDemand | None) -> None:
        self._services.demand.change(before, after)

    def poll_finished(self, connection: ConnectionId, outcome: Outcome, *, request_done: bool) -> None:
        self._provider_health.record(connection, outcome)
        if request_done:
            self._poll_requests.finish(connection)

    async def _drain(self) -> None:
        self._services.event_hub.close()
        self._services.grants.close(TOKEN_STORAGE_SECONDS)
        self._services.budget.close()
        await self.ownership.drain()
        with anyio.move_on_after(2.0):
            await self._services.audit_log.flush()

    def unready_reasons(self) -> list[str]:
        """Return actors that are down and conditions that stop polls; unless the runtime runs, only its state."""
        if self.runtime.state is not RuntimeState.RUNNING:
            return [self.runtime.state.value]
        down = [actor.name for actor in self.supervisors if not actor.running and actor.name in READINESS_ACTORS]
        reasons = {"ownership": self.ownership.store_unreachable, "shards": self.shards.load_overdue}
        return [*down, *(name for name, applies in reasons.items() if applies and name not in down)]

    def degraded_parts(self) -> list[str]:
        is_running, broker = self.runtime.state is RuntimeState.RUNNING, self.broker
        others = [actor for actor in self.supervisors if actor.name not in READINESS_ACTORS]
        broken = {actor.name: is_running and not actor.running for actor in others}
        state = broker.state if broker else BrokerState.CONNECTED
        broken["broker"] = state is not BrokerState.CONNECTED
        broken[f"broker:{state}"] = state.is_refused
        broken["publishing"] = self.relay.is_failing
        # a process without scheduled connections has no recent outcome to judge a provider by
        providers = self._provider_health.degraded_providers if self.scheduler.scheduled else []
        return [*(name for name, is_broken in broken.items() if is_broken), *providers]

    def status(self) -> replica_status.ReplicaStatus:
        owners, owned = self.view.snapshot.owners if self.view.snapshot else (), self.view.count_shards()
        next_due = self.scheduler.next_due(UPCOMING_POLLS)
        return replica_status.ReplicaStatus(
            owner=self.view.owner_id,
            state=self.runtime.state.value,
            unready=tuple(self.unready_reasons()),
            degraded=tuple(self.degraded_parts()),
            shards=replica_status.ShardCounts(len(self.view.serving), self.shards.loading),
            owners=tuple(replica_status.OwnerState(owner.id, owned[owner.id], owner.leaving) for owner in owners),
            connections=replica_status.ConnectionCounts(
                len(self.scheduler.scheduled),
                self.scheduler.polls_running,
                tuple(
                    replica_status.UpcomingPoll(due.replace(microsecond=0), str(connection))
                    for due, connection in next_due
                ),
            ),
            budgets=tuple(self._services.demand.states()),
            relay=replica_status.RelayCounts(self.relay.backlog, self.relay.failures),
            actors=tuple(
                replica_status.ActorState(actor.name, actor.running, actor.failures) for actor in self.supervisors
            ),
        )


class Workers:
    """Implements the ports Wakeups and ProcessHealth by the actors of this process.

    A wake-up has no effect while the actors do not run. No work is lost, because requests and changes are stored.
    """

    def __init__(self) -> None:
        self.actors: ActorTree | None = None

    @asynccontextmanager
    async def running(self, services: Services) -> AsyncIterator[None]:
        """Start the actors, and drain them on exit."""
        self.actors = ActorTree(services)
        async with self.actors.runtime.running():
            yield

    @property
    def crashed(self) -> bool:
        """True after a crash of the runtime, which stops the process."""
        return self.actors is not None and self.actors.runtime.crash is not None

    def wake_poller(self, connection: ConnectionId) -> None:
        del connection  # the inbox has the request
        if self.actors is not None:
            self.actors.inbox.wake()

    def wake_relay(self, changes: Sequence[Change]) -> None:
        if self.actors is not None:
            self.actors.relay.on_committed(changes)

    def check_relay(self, user: UserId) -> None:
        if self.actors is not None:
            self.actors.relay.wake(user)

    def shard_count(self) -> int:
        return len(self.actors.view.serving) if self.actors else 0

    def connection_count(self) -> int:
        return len(self.actors.scheduler.scheduled) if self.actors else 0

    def backfill_count(self) -> int:
        scheduled_connections = self.actors.scheduler.scheduled if self.actors else {}
        return sum(scheduled.poll_state.backfill_pending for scheduled in list(scheduled_connections.values()))

    def broker_state(self) -> BrokerState | None:
        broker = self.actors.broker if self.actors else None
        return broker.state if broker else None

    def restarts(self) -> dict[str, int]:
        return {actor.name: actor.restarts for actor in self.actors.supervisors} if self.actors else {}

    def newest_visible_at(self) -> dict[str, list[datetime]]:
        """Return, per provider, the time at which each connection's newest reading became visible. Thread-safe."""
        scheduled_connections = self.actors.scheduler.scheduled if self.actors else {}
        shown: dict[str, list[datetime]] = {}
        for connection in list(scheduled_connections):  # a copy, because the event loop may change the mapping
            scheduled = scheduled_connections.get(connection)
            if scheduled and scheduled.poll_state.visible_at:
                shown.setdefault(connection.provider, []).append(scheduled.poll_state.visible_at)
        return shown

    def next_poll(self, connection: ConnectionId) -> NextPoll | None:
        scheduled = self.actors.scheduler.scheduled.get(connection) if self.actors else None
        if scheduled is None:
            return None
        reason = NextPollReason.REQUESTED if scheduled.requested else scheduled.poll_state.reason
        return NextPoll(scheduled.due, reason, scheduled.poll_state.failures)

    def unready_reasons(self) -> list[str]:
        return self.actors.unready_reasons() if self.actors else [RuntimeState.STARTING.value]

    def degraded_parts(self) -> list[str]:
        return self.actors.degraded_parts() if self.actors else []

    def status(self) -> replica_status.ReplicaStatus | None:
        return self.actors.status() if self.actors else None
