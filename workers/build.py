"""Put the actors of one process together, and tell how they are."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import anyio

from bg_ingest.domain.events import Change
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.ports import Broker, Clock, Store
from bg_ingest.services.grants import Grants
from bg_ingest.services.poll import Polling
from bg_ingest.services.relay import Relay
from workers.backoff import Backoff, Patience
from workers.refresher import Refresher
from workers.relay import RelayActor
from workers.runtime import Actor, Runtime, State
from workers.scheduler import Scheduler
from workers.shards import Shards
from workers.supervisor import Supervisor

TOKEN_STORAGE = 12.0
"""Seconds a drain leaves to a refresh under way: its answer is the one thing that cannot be had again."""


class Parts(Protocol):
    """What the actors work with."""

    store: Store
    polling: Polling
    grants: Grants
    relay: Relay
    clock: Clock
    broker: Broker | None


class Workers:
    """The actors while they run: the ports Hints and Vitals of this process.

    A hint that comes while they do not run wakes nobody, and nothing is lost by that.
    """

    def __init__(self) -> None:
        self._runtime: Runtime | None = None
        self._relay: RelayActor | None = None
        self._shards: Shards | None = None
        self._broker: Broker | None = None

    @asynccontextmanager
    async def running(self, parts: Parts) -> AsyncIterator[None]:
        """Start the actors, and drain them on exit."""
        connections = parts.store.connections
        scheduler = Scheduler(parts.polling, parts.clock)
        self._relay = telling = RelayActor(parts.relay)
        self._shards = Shards(connections, scheduler, telling, parts.clock)
        refresher = Refresher(connections, parts.grants, parts.clock, self._shards.connections)

        async def drain() -> None:
            parts.grants.close(TOKEN_STORAGE)
            await scheduler.drain()
            with anyio.move_on_after(2.0):
                await telling.drain()

        actors: dict[str, Actor] = {
            "relay": telling,
            "scheduler": scheduler,
            "refresher": refresher,
            "shards": self._shards,
        }
        self._broker = parts.broker
        supervised = [Supervisor(name, actor, patience=Patience()) for name, actor in actors.items()]
        if parts.broker is not None:  # first, and for ever: a broker may be away for days
            supervised.insert(0, Supervisor("broker", parts.broker, backoff=Backoff(ceiling=30.0), patience=None))
        self._runtime = Runtime(supervised, drain=drain)
        async with self._runtime.running():
            yield

    def look(self, connection: ConnectionId) -> None:
        if self._shards is not None:
            self._shards.look(connection)

    def told(self, changes: Sequence[Change]) -> None:
        if self._relay is not None:
            self._relay.told(changes)

    def unready(self) -> list[str]:
        state = self._runtime.state if self._runtime else State.STARTING
        return [] if state is State.RUNNING else [state.value]

    def degraded(self) -> list[str]:
        broken = {
            "broker": self._broker is not None and not self._broker.connected,
            "telling": self._relay is not None and self._relay.failures > 0,
        }
        return [name for name, is_broken in broken.items() if is_broken]
