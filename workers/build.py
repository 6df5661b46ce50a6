"""Put the actors of one process together, and tell how they are."""

from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Protocol

import anyio

from bg_ingest.domain.events import Change
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.leases import Lease, Tempo
from bg_ingest.domain.timeline import Next
from bg_ingest.domain.turns import Why
from bg_ingest.domain.vitals import ActorState, OwnerState, Report, TurnAhead
from bg_ingest.ports import Broker, Clock, Store, Turns
from bg_ingest.services.admission import Admission
from bg_ingest.services.audit import Auditing
from bg_ingest.services.budget import SharedBudget
from bg_ingest.services.demand import Demands
from bg_ingest.services.erase import Erasing
from bg_ingest.services.grants import Grants
from bg_ingest.services.poll import Polling
from bg_ingest.services.relay import Relay
from workers.auditor import Auditor
from workers.backoff import Backoff, Patience
from workers.eraser import Eraser
from workers.key_uses import KeyUses
from workers.ownership import Ownership
from workers.refresher import Refresher
from workers.relay import RelayActor
from workers.rings import RingReader
from workers.runtime import Actor, Runtime, State
from workers.scheduler import Scheduler
from workers.shards import Shards
from workers.supervisor import Supervisor
from workers.unanswered import Unanswered

TOKEN_STORAGE = 12.0
"""Seconds a drain leaves to a refresh under way: its answer is the one thing that cannot be had again."""

SERVING = frozenset({"scheduler", "shards", "rings", "ownership"})
"""Actors without which nobody is polled here; while another is down, the rest goes on."""

NEXT_TURNS = 10
"""Shown in a report."""


class Parts(Protocol):
    """What the actors work with."""

    store: Store
    turns: Turns
    polling: Polling
    grants: Grants
    budget: SharedBudget
    demands: Demands
    admission: Admission
    relay: Relay
    erasing: Erasing
    auditing: Auditing
    clock: Clock
    broker: Broker | None
    tempo: Tempo
    name: str


class Workers:
    """The actors while they run: the ports Hints and Vitals of this process.

    A hint that comes while they do not run wakes nobody, and nothing is lost by that.
    """

    def __init__(self) -> None:
        self._actors: Actors | None = None

    @asynccontextmanager
    async def running(self, parts: Parts) -> AsyncIterator[None]:
        """Start the actors, and drain them on exit."""
        self._actors = Actors(parts)
        async with self._actors.runtime.running():
            yield

    def look(self, connection: ConnectionId) -> None:
        del connection  # which one stands in the store
        if self._actors is not None:
            self._actors.rings.hurry()

    def told(self, changes: Sequence[Change]) -> None:
        if self._actors is not None:
            self._actors.relay.told(changes)

    def owned(self) -> int:
        return len(self._actors.ownership.serving) if self._actors else 0

    def polled(self) -> int:
        return len(self._actors.scheduler.seats) if self._actors else 0

    def backfills(self) -> int:
        return sum(each.plan.past_left for each in list(self._actors.scheduler.seats.values())) if self._actors else 0

    def restarts(self) -> dict[str, int]:
        return {each.name: each.restarts for each in self._actors.supervised} if self._actors else {}

    def shown(self) -> dict[str, list[datetime]]:
        """Return by provider when the newest reading of each connection was shown; asked from any thread."""
        seats = self._actors.scheduler.seats if self._actors else {}
        shown: dict[str, list[datetime]] = {}
        for connection in list(seats):  # at once, whatever the loop does meanwhile
            seat = seats.get(connection)
            if seat and seat.plan.shown_at:
                shown.setdefault(connection.provider, []).append(seat.plan.shown_at)
        return shown

    def ahead(self, connection: ConnectionId) -> Next | None:
        seat = self._actors.scheduler.seats.get(connection) if self._actors else None
        if seat is None:
            return None
        return Next(seat.due, Why.ASKED if seat.asked else seat.plan.why, seat.plan.failures)

    def unready(self) -> list[str]:
        return self._actors.unready() if self._actors else [State.STARTING.value]

    def degraded(self) -> list[str]:
        return self._actors.degraded() if self._actors else []

    def report(self) -> Report | None:
        return self._actors.report() if self._actors else None


class Actors:
    """One process's actors, joined."""

    def __init__(self, parts: Parts) -> None:
        self._grants = parts.grants
        self._budget = parts.budget
        self._demands = parts.demands
        self._auditing = parts.auditing
        self._broker = parts.broker
        connections = parts.store.connections
        self.relay = RelayActor(parts.relay)
        self.scheduler = Scheduler(parts.turns, parts.clock)
        self._unanswered = Unanswered()
        self.shards = Shards(connections, self.scheduler, self.relay, parts.clock)
        self.ownership = Ownership(
            parts.store.ownership, self.shards, parts.name, tempo=parts.tempo, demand=parts.demands.published
        )
        self.rings = RingReader(
            parts.store.rings,
            self.scheduler,
            self.relay,
            me=lambda: self.ownership.me,
            epoch=self.ownership.epoch,
            seated=self.shards.serves,
            every=parts.tempo.rings_every,
        )
        self.scheduler.ended, self.scheduler.looked = self._unanswered.ended, self.rings.looked
        self.scheduler.may = self.ownership.holds
        self.scheduler.wanted, self.shards.want = parts.demands.change, parts.demands.listed
        parts.demands.others, parts.demands.seated = self._others, lambda: self.shards.seated
        self.shards.on_take, self.shards.foreseen = self._taking, parts.polling.foreseen
        actors: dict[str, Actor] = {
            "relay": self.relay,
            "scheduler": self.scheduler,
            "refresher": Refresher(connections, parts.grants, parts.clock, self.shards.connections),
            "key uses": KeyUses(parts.admission),
            "shards": self.shards,
            "rings": self.rings,
            "auditor": Auditor(parts.auditing),
            "eraser": Eraser(parts.store.erasures, parts.erasing),
            "ownership": self.ownership,  # last: then work begins
        }
        self.supervised = [Supervisor(name, actor, patience=Patience()) for name, actor in actors.items()]
        if parts.broker is not None:  # first, and for ever: a broker may be away for days
            self.supervised.insert(0, Supervisor("broker", parts.broker, backoff=Backoff(ceiling=30.0), patience=None))
        self.runtime = Runtime(self.supervised, drain=self._drain)

    def _taking(self, taken: Collection[Lease]) -> None:
        self._demands.joining()
        self.rings.inherit(taken)

    def _others(self) -> list[Mapping[str, float]]:
        """What the other processes want, as the last look found it."""
        board = self.ownership.board
        return [each.demand for each in board.owners if each.id != self.ownership.me] if board else []

    async def _drain(self) -> None:
        self._grants.close(TOKEN_STORAGE)
        self._budget.close()
        await self.ownership.drain()
        with anyio.move_on_after(2.0):
            await self._auditing.write()

    def unready(self) -> list[str]:
        """The reasons, by name: the runtime's state, what serves and is down, shards that are ours and not served."""
        if self.runtime.state is not State.RUNNING:
            return [self.runtime.state.value]
        down = [each.name for each in self.supervised if not each.running and each.name in SERVING]
        reasons = {"ownership": self.ownership.blind, "shards": self.shards.overdue}
        return [*down, *(name for name, holds in reasons.items() if holds and name not in down)]

    def degraded(self) -> list[str]:
        runs = self.runtime.state is State.RUNNING
        aside = {each.name: runs and not each.running for each in self.supervised if each.name not in SERVING}
        broken = aside | {
            "broker": self._broker is not None and not self._broker.connected,
            "telling": self.relay.failures > 0,
        }
        providers = self._unanswered.degraded if self.scheduler.seats else []  # who polls nobody cannot know any more
        return [*(name for name, is_broken in broken.items() if is_broken), *providers]

    def report(self) -> Report:
        board = self.ownership.board
        owned = Counter(lease.owner for lease in board.leases) if board else Counter()
        return Report(
            owner=self.ownership.me,
            state=self.runtime.state.value,
            unready=tuple(self.unready()),
            degraded=tuple(self.degraded()),
            shards=len(self.ownership.serving),
            shards_unserved=self.shards.unserved,
            owners=tuple(OwnerState(each.id, owned[each.id], each.leaving) for each in board.owners) if board else (),
            connections=len(self.scheduler.seats),
            turns_running=self.scheduler.running,
            next_turns=tuple(TurnAhead(*each) for each in self.scheduler.next_due(NEXT_TURNS)),
            budgets=tuple(self._demands.states()),
            relay_backlog=self.relay.backlog,
            relay_failures=self.relay.failures,
            actors=tuple(ActorState(each.name, each.running, each.failures) for each in self.supervised),
        )
