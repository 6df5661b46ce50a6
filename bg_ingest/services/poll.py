"""A connection's turn: one look of one kind, and when the next turn is."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta

import msgspec
import structlog

from bg_ingest.domain.connections import POLLED, Connection, Defaults, State
from bg_ingest.domain.freshness import GAP_AFTER, SLACK
from bg_ingest.domain.grants import Grant
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.outcomes import Ending, Outcome
from bg_ingest.domain.readings import Origin
from bg_ingest.domain.schedule import Rhythm, after_failure, next_poll
from bg_ingest.domain.turns import ORIGINS, Kind, Plan, Surveyed, Turn, Why
from bg_ingest.errors import (
    BudgetSpent,
    Fenced,
    GrantError,
    GrantLost,
    IngestError,
    ProviderForbidden,
    ProviderThrottled,
    StoreError,
)
from bg_ingest.ports import Clock, Provider, Store
from bg_ingest.services.demand import Demands
from bg_ingest.services.endings import ending_for
from bg_ingest.services.gaps import Surveying
from bg_ingest.services.looks import Looked, Looks
from bg_ingest.services.transition import Transition

log: structlog.stdlib.BoundLogger = structlog.get_logger()

THROTTLED_WAIT = timedelta(minutes=1)
"""Where the provider does not say how long."""

FORBIDDEN_WAIT = timedelta(hours=6)
"""Only an operator can mend it, but nobody should have to tell us that it is mended."""


class Polling:
    """Takes connections' turns. It keeps nothing of them: any process may take any turn."""

    def __init__(
        self,
        store: Store,
        providers: Mapping[str, Provider],
        looks: Looks,
        surveying: Surveying,
        transition: Transition,
        clock: Clock,
        defaults: Defaults,
        demands: Demands,
    ) -> None:
        self._connections = store.connections
        self._providers = providers
        self._looks = looks
        self._surveying = surveying
        self._transition = transition
        self._clock = clock
        self._defaults = defaults
        self._demands = demands

    async def turn(self, connection_id: ConnectionId, epoch: int, plan: Plan, *, asked: bool = False) -> Turn:
        """Take one turn: a look at what is new if one is due or ``asked`` for, else at what else there is to read.

        Everything that is expected to happen becomes the outcome; a surprise escapes.
        """
        if asked:
            plan = msgspec.structs.replace(plan, look_at=self._clock.now())  # due from now on, until one has succeeded
        connection, kind = None, None
        try:
            connection, grant = await self._connections.with_grant(connection_id)
            if connection is None or grant is None or connection.state not in POLLED:
                return Turn(Outcome(Ending.INACTIVE), None)
            if connection.epoch > epoch:  # its shard was taken from us, and its new owner has been here
                raise Fenced
            look_at = plan.look_at or self.rhythm(connection).first_slot(connection.anchor)
            kind = self._kind(connection, look_at)
            if kind is None:
                surveyed = await self._survey(connection, plan.surveyed)
                return self._turn(connection, Outcome(Ending.NOT_DUE), look_at, surveyed)
            looked = await self._look(kind, connection, grant, epoch)
        except IngestError as error:
            turn = await self._failed(error, connection_id, connection, plan)
            return msgspec.structs.replace(turn, origin=ORIGINS.get(kind))
        if plan.failures:
            log.info("turns succeed again", action="turn_recovered", connection=str(connection_id))
        if kind is Kind.NEW or connection.newest_reading_at is None:  # the newest of the past is the first look
            look_at = self._next_look(looked.connection)
        surveyed = self._wanting(looked, plan.surveyed, kind)
        return self._turn(looked.connection, looked.outcome, look_at, surveyed, ORIGINS[kind])

    def foreseen(self, connection: Connection) -> Turn | None:
        """Return what a first turn that asks nothing would come to, without a due where it would ask something.

        None for a connection that is not polled.
        """
        if connection.state not in POLLED:
            return None
        look_at = self.rhythm(connection).first_slot(connection.anchor)
        turn = self._turn(connection, Outcome(Ending.NOT_DUE), look_at, Surveyed())
        if self._kind(connection, look_at) is None:
            return turn
        return msgspec.structs.replace(turn, due=None, plan=msgspec.structs.replace(turn.plan, why=Why.START))

    def _kind(self, connection: Connection, look_at: datetime) -> Kind | None:
        now = self._clock.now()
        if connection.newest_reading_at is None and connection.backfill is not None:
            return Kind.PAST
        if now >= look_at:
            return Kind.NEW
        if self._defaults.sweep(connection, now):
            return Kind.AGAIN
        if connection.repair_at is not None and connection.repair_at <= now:
            return Kind.MISSING
        return Kind.PAST if connection.backfill else None

    async def _look(self, kind: Kind, connection: Connection, grant: Grant, epoch: int) -> Looked:
        if kind is Kind.AGAIN and (known := self._defaults.sweep(connection, self._clock.now())):
            return await self._looks.again(connection, grant, epoch, known)
        if kind is Kind.MISSING:
            missing, next_at = await self._surveying.to_ask(connection)
            return await self._looks.at_missing(connection, grant, epoch, missing, next_at)
        if kind is Kind.PAST and connection.backfill:
            return await self._looks.at_past(connection, grant, epoch, connection.backfill)
        return await self._looks.at_new(connection, grant, epoch)

    def _turn(
        self,
        connection: Connection,
        outcome: Outcome,
        look_at: datetime,
        surveyed: Surveyed,
        origin: Origin | None = None,
    ) -> Turn:
        now = self._clock.now()
        more = surveyed.due or self._kind(connection, max(look_at, now + timedelta(seconds=1))) is not None
        expected = look_at <= self.rhythm(connection).first_slot(connection.anchor)
        why = Why.PAST if more else Why.SLOT if expected else Why.SILENCE
        plan = Plan(look_at, 0, why, self._shown_at(connection), surveyed, connection.backfill is not None)
        rhythm = msgspec.structs.replace(self.rhythm(connection), stretch=1.0)
        want = self._demands.of(connection, rhythm.step.total_seconds())
        return Turn(outcome, now if more else look_at, plan, origin, want)

    def _wanting(self, looked: Looked, surveyed: Surveyed, kind: Kind) -> Surveyed:
        """Want a survey where a look gives reason for one: what has come late, or is missing by now."""
        connection = looked.connection
        lacks = connection.lacks_until and connection.lacks_until <= self._overdue(connection)
        whole = connection.backfill is None  # else the past's last look wants one
        past = kind is Kind.AGAIN or (kind is Kind.PAST and whole)
        due = surveyed.due or (lacks and whole) or past or looked.outcome.late or self._silent(connection, surveyed)
        return msgspec.structs.replace(surveyed, due=bool(due))

    async def _survey(self, connection: Connection, surveyed: Surveyed) -> Surveyed:
        if not surveyed.due:
            return surveyed
        provider = self._providers[connection.id.provider]
        silence = connection.newest_reading_at if self._silent(connection, surveyed) else surveyed.silence_after
        more = await self._surveying.survey(connection, self.rhythm(connection), provider.capabilities)
        return Surveyed(silence, due=more)

    def _overdue(self, connection: Connection) -> datetime:
        """Return the instant from before which what has not come is missing."""
        return self._clock.now() - self.rhythm(connection).delay - SLACK - GAP_AFTER

    def _silent(self, connection: Connection, surveyed: Surveyed) -> bool:
        """Whether nothing has come for so long that a gap is open, and that was not surveyed yet."""
        newest = connection.newest_reading_at
        if newest is None or newest == surveyed.silence_after:
            return False
        return newest + self.rhythm(connection).step < self._overdue(connection)

    def _shown_at(self, connection: Connection) -> datetime:
        return connection.anchor + self.rhythm(connection).delay

    def _next_look(self, connection: Connection) -> datetime:
        return next_poll(connection.anchor, self._clock.now(), self.rhythm(connection))

    def rhythm(self, connection: Connection) -> Rhythm:
        """Return how this connection's readings come and how often they are looked for."""
        capabilities = self._providers[connection.id.provider].capabilities
        learned = connection.cadence_seconds
        return Rhythm(
            self._defaults.interval(connection.worker),
            timedelta(seconds=learned) if learned else capabilities.cadence,
            capabilities.regions[connection.region],
            connection.id.jitter,
            self._demands.stretch_of(connection),
        )

    async def _failed(
        self, error: IngestError, connection_id: ConnectionId, connection: Connection | None, plan: Plan
    ) -> Turn:
        """Turn what went wrong into an outcome, a state where it is one, and the time of the next try."""
        now = self._clock.now()
        if isinstance(error, BudgetSpent):  # nobody was asked: nothing is wrong, nothing to note
            later = now + error.wait
            if plan.look_at and plan.look_at > now:  # refused was the past: what is new does not wait for it
                later = min(later, plan.look_at)
            return Turn(Outcome(Ending.BUDGET_SPENT), later, msgspec.structs.replace(plan, why=Why.BUDGET))
        ending = ending_for(error)
        shown_at = self._shown_at(connection) if connection else plan.shown_at
        past_left = connection.backfill is not None if connection else plan.past_left
        failed = Plan(plan.look_at, plan.failures + 1, Why.RETRY, shown_at, plan.surveyed, past_left)
        if ending not in (Ending.GRANT_BUSY, Ending.FENCED) and not plan.failures:
            log.warning("a turn failed", action="turn_failed", connection=str(connection_id), ending=ending)
        if connection is not None:
            with suppress(StoreError):
                if isinstance(error, GrantLost):
                    await self._lost(connection)
                    return Turn(Outcome(ending), None)
                if isinstance(error, ProviderForbidden) and connection.state is State.ACTIVE:
                    await self._transition.enter(connection, State.PROVIDER_FORBIDDEN, "forbidden_by_provider")
                elif ending is not Ending.FENCED:
                    connection = await self._looks.note(connection, connection, ending)
                    if self._silent(connection, plan.surveyed):  # no other turn may come to it for long
                        due = msgspec.structs.replace(plan.surveyed, due=True)
                        surveyed = await self._survey(connection, due)
                        failed = msgspec.structs.replace(failed, surveyed=surveyed)
        return Turn(Outcome(ending), self._next_try(error, connection, now, failed), failed)

    def _next_try(self, error: IngestError, connection: Connection | None, now: datetime, plan: Plan) -> datetime:
        if isinstance(error, GrantError) and error.wait:
            return now + error.wait
        if isinstance(error, ProviderThrottled):
            wait = error.wait or THROTTLED_WAIT
            return now + wait * (1 + (connection.id.jitter if connection else 0) / 4)
        if isinstance(error, ProviderForbidden):
            return now + FORBIDDEN_WAIT
        return after_failure(plan.failures, now, self._next_look(connection) if connection else None)

    async def _lost(self, connection: Connection) -> None:
        """Believe the refusal, if the grant is still the one that was refused."""
        _, grant = await self._connections.with_grant(connection.id)
        if grant is not None and grant.generation == connection.generation and grant.exhausted:
            await self._transition.enter(
                connection, State.REAUTHORIZATION_REQUIRED, "grant_refused_by_provider", refused=grant
            )
