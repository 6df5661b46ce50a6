"""A connection's turn: one look of one kind, and when the next turn is."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta

import msgspec
import structlog

from bg_ingest.domain.connections import POLLED, Connection, Defaults, State
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.outcomes import Ending, Outcome
from bg_ingest.domain.readings import Origin
from bg_ingest.domain.schedule import Rhythm, after_failure, next_poll
from bg_ingest.domain.turns import Plan, Turn, Why
from bg_ingest.errors import (
    Fenced,
    GrantBusy,
    GrantError,
    GrantLost,
    GrantRefused,
    IngestError,
    ProviderForbidden,
    ProviderMisbehaved,
    ProviderThrottled,
    ProviderUnavailable,
    StoreError,
    StoreUnavailable,
    Unsealable,
)
from bg_ingest.ports import Clock, Provider, Store
from bg_ingest.services.looks import Looks
from bg_ingest.services.transition import Transition

log: structlog.stdlib.BoundLogger = structlog.get_logger()

THROTTLED_WAIT = timedelta(minutes=1)
"""Where the provider does not say how long."""

FORBIDDEN_WAIT = timedelta(hours=6)
"""Only an operator can mend it, but nobody should have to tell us that it is mended."""

ENDINGS: dict[type[IngestError], Ending] = {
    GrantBusy: Ending.GRANT_BUSY,
    GrantRefused: Ending.REFUSED,
    GrantLost: Ending.REFUSED,
    ProviderThrottled: Ending.THROTTLED,
    ProviderUnavailable: Ending.UNAVAILABLE,
    ProviderMisbehaved: Ending.MISBEHAVED,
    ProviderForbidden: Ending.FORBIDDEN,
    StoreUnavailable: Ending.STORE_UNAVAILABLE,
    Unsealable: Ending.UNSEALABLE,
    Fenced: Ending.FENCED,
}


class Polling:
    """Takes connections' turns. It keeps nothing of them: any process may take any turn."""

    def __init__(
        self,
        store: Store,
        providers: Mapping[str, Provider],
        looks: Looks,
        transition: Transition,
        clock: Clock,
        defaults: Defaults,
    ) -> None:
        self._connections = store.connections
        self._providers = providers
        self._looks = looks
        self._transition = transition
        self._clock = clock
        self._defaults = defaults

    async def turn(self, connection_id: ConnectionId, epoch: int, plan: Plan, *, asked: bool = False) -> Turn:
        """Take one turn: a look at what is new if one is due or ``asked`` for, else at what else there is to read.

        Everything that is expected to happen becomes the outcome; a surprise escapes.
        """
        if asked:
            plan = msgspec.structs.replace(plan, look_at=self._clock.now())  # due from now on, until one has succeeded
        connection, origin = None, None
        try:
            connection, grant = await self._connections.with_grant(connection_id)
            if connection is None or grant is None or connection.state not in POLLED:
                return Turn(Outcome(Ending.INACTIVE), None)
            if connection.epoch > epoch:  # its shard was taken from us, and its new owner has been here
                raise Fenced
            look_at = plan.look_at or self.rhythm(connection).first_slot(connection.anchor)
            first = connection.newest_reading_at is None and connection.backfill is not None
            if self._clock.now() >= look_at and not first:
                origin = Origin.LIVE
                outcome, connection = await self._looks.at_new(connection, grant, epoch)
                look_at = self._next_look(connection)
            elif not first and (again := self._defaults.sweep(connection, self._clock.now())):
                origin = Origin.SWEEP
                outcome, connection = await self._looks.again(connection, grant, epoch, again)
            elif connection.backfill is not None:
                origin = Origin.BACKFILL
                outcome, connection = await self._looks.at_past(connection, grant, epoch, connection.backfill)
                if first:  # its newest window was the first look
                    look_at = self._next_look(connection)
            else:
                outcome = Outcome(Ending.NOT_DUE)
        except IngestError as error:
            turn = await self._failed(error, connection_id, connection, plan)
            return msgspec.structs.replace(turn, origin=origin)
        if plan.failures and outcome.ending is not Ending.NOT_DUE:
            log.info("turns succeed again", action="turn_recovered", connection=str(connection_id))
        due = self._clock.now() if self._more(connection) else look_at
        return Turn(outcome, due, self._plan(connection, look_at), origin)

    def _more(self, connection: Connection) -> bool:
        """Whether there is something to read besides what is new."""
        return bool(connection.backfill or self._defaults.sweep(connection, self._clock.now()))

    def _plan(self, connection: Connection, look_at: datetime) -> Plan:
        expected = look_at <= self.rhythm(connection).first_slot(connection.anchor)
        why = Why.PAST if self._more(connection) else Why.SLOT if expected else Why.SILENCE
        return Plan(look_at, 0, why, self._shown_at(connection))

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
        )

    async def _failed(
        self, error: IngestError, connection_id: ConnectionId, connection: Connection | None, plan: Plan
    ) -> Turn:
        """Turn what went wrong into an outcome, a state where it is one, and the time of the next try."""
        now = self._clock.now()
        ending = next((ending for kind, ending in ENDINGS.items() if isinstance(error, kind)), Ending.STORE_UNAVAILABLE)
        shown_at = self._shown_at(connection) if connection else plan.shown_at
        failed = Plan(plan.look_at, plan.failures + 1, Why.RETRY, shown_at)
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
                    await self._looks.note(connection, connection, ending)
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
