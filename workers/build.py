"""Entry point of the actors: their start and drain, wake-ups, and state for health checks and metrics."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from bg_ingest.domain.changes import Change
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.polling import NextPollReason
from bg_ingest.domain.replica_status import ReplicaStatus
from bg_ingest.domain.timeline import NextPoll
from bg_ingest.services import Services
from workers.actor_tree import ActorTree
from workers.runtime import RuntimeState


class Workers:
    """Implements the ports Wakeups and ProcessHealth of this process, by its actors.

    A wake-up while they do not run has no effect. Nothing is lost by that, because requests and changes are stored.
    """

    def __init__(self) -> None:
        self.actors: ActorTree | None = None

    @asynccontextmanager
    async def running(self, services: Services) -> AsyncIterator[None]:
        """Start the actors, and drain them on exit."""
        self.actors = ActorTree(services)
        async with self.actors.runtime.running():
            yield

    def wake_poller(self, connection: ConnectionId) -> None:
        del connection  # the inbox has the request
        if self.actors is not None:
            self.actors.inbox.wake()

    def wake_relay(self, changes: Sequence[Change]) -> None:
        if self.actors is not None:
            self.actors.relay.on_committed(changes)

    def shard_count(self) -> int:
        return len(self.actors.view.serving) if self.actors else 0

    def connection_count(self) -> int:
        return len(self.actors.scheduler.scheduled) if self.actors else 0

    def backfill_count(self) -> int:
        return (
            sum(scheduled.poll_state.backfill_pending for scheduled in list(self.actors.scheduler.scheduled.values()))
            if self.actors
            else 0
        )

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
        return NextPoll(
            scheduled.due,
            NextPollReason.REQUESTED if scheduled.requested else scheduled.poll_state.reason,
            scheduled.poll_state.failures,
        )

    def unready_reasons(self) -> list[str]:
        return self.actors.unready_reasons() if self.actors else [RuntimeState.STARTING.value]

    def degraded_parts(self) -> list[str]:
        return self.actors.degraded_parts() if self.actors else []

    def status(self) -> ReplicaStatus | None:
        return self.actors.status() if self.actors else None
