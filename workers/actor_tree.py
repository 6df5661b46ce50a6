"""Tree of the actors of one process: construction, drain, health and status."""

from collections import Counter

import anyio

from bg_ingest.domain.call_budget import CallDemand
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.polling import Outcome
from bg_ingest.domain.replica_status import (
    ActorState,
    ConnectionCounts,
    OwnerState,
    RelayCounts,
    ReplicaStatus,
    ShardCounts,
    UpcomingPoll,
)
from bg_ingest.services import Services
from bg_ingest.services.budget.demand import Demand
from workers.backoff import Backoff, CrashLimit
from workers.inbox import InboxReader, PollRequests
from workers.ownership import Ownership
from workers.ownership_view import OwnershipView
from workers.periodic import AUDIT_SECONDS, ERASURE_SECONDS, KEY_USE_SECONDS, Periodic
from workers.provider_health import ProviderHealth
from workers.refresher import Refresher
from workers.relay import RelayActor
from workers.runtime import Actor, Runtime, RuntimeState
from workers.scheduler import Scheduler
from workers.shards import Shards
from workers.supervisor import Supervisor

TOKEN_STORAGE_SECONDS = 12.0
"""Seconds that a drain leaves to a running refresh, because a single-use refresh token cannot be exchanged again."""

READINESS_ACTORS = frozenset({"scheduler", "shards", "inbox", "ownership"})
"""Actors that polls depend on. While any other actor is down, polls go on."""

UPCOMING_POLLS = 10
"""Polls listed in a status report."""


class PollEvents:
    """Passes events of the scheduler on to the call demand, the provider health and the poll requests."""

    def __init__(self, demand: Demand, provider_health: ProviderHealth, poll_requests: PollRequests) -> None:
        self._demand = demand
        self._provider_health = provider_health
        self._poll_requests = poll_requests

    def demand_changed(self, before: CallDemand | None, after: CallDemand | None) -> None:
        self._demand.change(before, after)

    def poll_finished(self, connection: ConnectionId, outcome: Outcome, *, request_done: bool) -> None:
        self._provider_health.record(connection, outcome)
        if request_done:
            self._poll_requests.finish(connection)


class ActorTree:
    """Builds the actors in the order of their dependencies: view, scheduler, shards, inbox, ownership."""

    def __init__(self, services: Services) -> None:
        self._services = services
        connections, clock, demand = services.store.connections, services.clock, services.demand
        poll_requests = PollRequests()
        self._provider_health = ProviderHealth()
        self.view = OwnershipView(services.timings.valid_for)
        self.relay = RelayActor(services.relay)
        self.scheduler = Scheduler(
            services.poller, clock, self.view, PollEvents(demand, self._provider_health, poll_requests)
        )
        self.shards = Shards(connections, self.scheduler, self.relay, clock, demand, services.poller)
        self.inbox = InboxReader(
            services.store.inbox,
            self.scheduler,
            self.relay,
            ownership=self.view,
            poll_requests=poll_requests,
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
            "auditor": Periodic(AUDIT_SECONDS, services.audit_log.flush, work=services.audit_log.wait),
            "eraser": Periodic(ERASURE_SECONDS, services.eraser.finish_unfinished, first_after=0.0),
            "ownership": self.ownership,  # last, because work begins then
        }
        self.supervisors = [Supervisor(name, actor, crash_limit=CrashLimit()) for name, actor in actors.items()]
        if services.broker is not None:  # first, and without a crash limit: a broker may be unreachable for days
            self.supervisors.insert(
                0, Supervisor("broker", services.broker, backoff=Backoff(ceiling=30.0), crash_limit=None)
            )
        self.runtime = Runtime(self.supervisors, drain=self._drain)

    async def _drain(self) -> None:
        self._services.grants.close(TOKEN_STORAGE_SECONDS)
        self._services.budget.close()
        await self.ownership.drain()
        with anyio.move_on_after(2.0):
            await self._services.audit_log.flush()

    def unready_reasons(self) -> list[str]:
        """Return the state of a runtime that does not run; else actors that are down and conditions that stop polls."""
        if self.runtime.state is not RuntimeState.RUNNING:
            return [self.runtime.state.value]
        down = [actor.name for actor in self.supervisors if not actor.running and actor.name in READINESS_ACTORS]
        reasons = {"ownership": self.ownership.store_unreachable, "shards": self.shards.load_overdue}
        return [*down, *(name for name, applies in reasons.items() if applies and name not in down)]

    def degraded_parts(self) -> list[str]:
        is_running = self.runtime.state is RuntimeState.RUNNING
        others_down = {
            actor.name: is_running and not actor.running
            for actor in self.supervisors
            if actor.name not in READINESS_ACTORS
        }
        broken = others_down | {
            "broker": self._services.broker is not None and not self._services.broker.connected,
            "publishing": self.relay.failures > 0,
        }
        # a process without scheduled connections has no recent outcome to judge a provider by
        providers = self._provider_health.degraded_providers if self.scheduler.scheduled else []
        return [*(name for name, is_broken in broken.items() if is_broken), *providers]

    def status(self) -> ReplicaStatus:
        snapshot = self.view.snapshot
        owned = Counter(lease.owner for lease in snapshot.leases) if snapshot else Counter()
        return ReplicaStatus(
            owner=self.view.owner_id,
            state=self.runtime.state.value,
            unready=tuple(self.unready_reasons()),
            degraded=tuple(self.degraded_parts()),
            shards=ShardCounts(len(self.view.serving), self.shards.loading),
            owners=tuple(OwnerState(owner.id, owned[owner.id], owner.leaving) for owner in snapshot.owners)
            if snapshot
            else (),
            connections=ConnectionCounts(
                len(self.scheduler.scheduled),
                self.scheduler.polls_running,
                tuple(
                    UpcomingPoll(due.replace(microsecond=0), str(connection))
                    for due, connection in self.scheduler.next_due(UPCOMING_POLLS)
                ),
            ),
            budgets=tuple(self._services.demand.states()),
            relay=RelayCounts(self.relay.backlog, self.relay.failures),
            actors=tuple(ActorState(actor.name, actor.running, actor.failures) for actor in self.supervisors),
        )
