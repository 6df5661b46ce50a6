"""One poll of a connection, and the time of the next."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta

import msgspec
import structlog

from bg_ingest.domain.connections import POLLED_STATES, Connection, ConnectionState, PollDefaults
from bg_ingest.domain.grants import Grant
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.polling import (
    ORIGINS,
    GapCheck,
    NextPollReason,
    Outcome,
    PollKind,
    PollReport,
    PollResult,
    PollState,
    choose_kind,
    gap_check_after,
    is_silent,
)
from bg_ingest.domain.readings import Origin
from bg_ingest.domain.schedule import Rhythm, next_poll
from bg_ingest.errors import (
    BudgetSpent,
    Fenced,
    GrantLost,
    IngestError,
    ProviderForbidden,
    StoreError,
)
from bg_ingest.ports import Clock, Observer, Provider
from bg_ingest.services.budget.demand import Demand
from bg_ingest.services.connections.states import ConnectionStates
from bg_ingest.services.polling.fetch import Fetched, Fetcher
from bg_ingest.services.polling.gaps import GapKeeper
from bg_ingest.services.polling.outcomes import outcome_of, retry_at
from bg_ingest.store import Store

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Poller:
    """Polls connections. It keeps no state of them, so that any process may run any poll."""

    def __init__(
        self,
        store: Store,
        providers: Mapping[str, Provider],
        fetcher: Fetcher,
        gap_keeper: GapKeeper,
        connection_states: ConnectionStates,
        clock: Clock,
        defaults: PollDefaults,
        demand: Demand,
        observer: Observer,
    ) -> None:
        self._connections = store.connections
        self._providers = providers
        self._fetcher = fetcher
        self._gap_keeper = gap_keeper
        self._connection_states = connection_states
        self._clock = clock
        self._defaults = defaults
        self._demand = demand
        self._observer = observer

    async def poll(
        self, connection_id: ConnectionId, epoch: int, state: PollState, *, requested: bool = False
    ) -> PollReport:
        """Run one poll: live if it is due or ``requested``, else one window of the other kinds, else a gap check.

        Every expected failure becomes the outcome; a surprise escapes.
        """
        with self._observer.poll(connection_id, epoch) as observation:
            report = await self._poll(connection_id, epoch, state, requested=requested)
            observation.finish(report)
        return report

    async def _poll(self, connection_id: ConnectionId, epoch: int, state: PollState, *, requested: bool) -> PollReport:
        if requested:
            # due from now on, until a poll has succeeded
            state = msgspec.structs.replace(state, poll_at=self._clock.now())
        connection, kind = None, None
        try:
            connection, grant = await self._connections.get_with_grant(connection_id)
            if connection is None or grant is None or connection.state not in POLLED_STATES:
                return PollReport(PollResult(Outcome.INACTIVE), None)
            if connection.epoch > epoch:  # its shard was taken, and its new owner has written
                raise Fenced
            poll_at = state.poll_at or self.rhythm(connection).first_slot(connection.anchor)
            kind = choose_kind(connection, self._defaults, poll_at, self._clock.now())
            if kind is None:
                gap_check = await self._check_gaps(connection, state.gap_check)
                return self._report(connection, PollResult(Outcome.NOT_DUE), poll_at, gap_check)
            fetched = await self._fetch(kind, connection, grant, epoch)
        except IngestError as error:
            report = await self._handle_error(error, connection_id, connection, state)
            return msgspec.structs.replace(report, origin=ORIGINS.get(kind))
        if state.failures:
            log.info("polls succeed again", action="poll_recovered", connection=str(connection_id))
        # without a reading, the newest part of the backfill serves as the live poll
        if kind is PollKind.LIVE or connection.newest_reading_at is None:
            poll_at = self._next_poll_at(fetched.connection)
        late, now = fetched.result.late > 0, self._clock.now()
        gap_check = gap_check_after(
            kind, fetched.connection, state.gap_check, self.rhythm(fetched.connection), now, late=late
        )
        return self._report(fetched.connection, fetched.result, poll_at, gap_check, ORIGINS[kind])

    def report_without_fetch(self, connection: Connection) -> PollReport | None:
        """Return the report of a first poll if that makes no request; without a due time if it would make one.

        None for a connection that is not polled.
        """
        if connection.state not in POLLED_STATES:
            return None
        poll_at = self.rhythm(connection).first_slot(connection.anchor)
        report = self._report(connection, PollResult(Outcome.NOT_DUE), poll_at, GapCheck())
        if choose_kind(connection, self._defaults, poll_at, self._clock.now()) is None:
            return report
        return msgspec.structs.replace(
            report, due=None, state=msgspec.structs.replace(report.state, reason=NextPollReason.START)
        )

    async def _fetch(self, kind: PollKind, connection: Connection, grant: Grant, epoch: int) -> Fetched:
        if kind is PollKind.SWEEP and (sweep_window := self._defaults.sweep(connection, self._clock.now())):
            return await self._fetcher.sweep(connection, grant, epoch, sweep_window)
        if kind is PollKind.REPAIR:
            repair_window, next_at = await self._gap_keeper.due_repair(connection)
            return await self._fetcher.repair(connection, grant, epoch, repair_window, next_at)
        if kind is PollKind.BACKFILL and connection.backfill:
            return await self._fetcher.backfill(connection, grant, epoch, connection.backfill)
        return await self._fetcher.live(connection, grant, epoch)

    def _report(
        self,
        connection: Connection,
        result: PollResult,
        poll_at: datetime,
        gap_check: GapCheck,
        origin: Origin | None = None,
    ) -> PollReport:
        now = self._clock.now()
        rhythm = self.rhythm(connection)
        past_due = choose_kind(connection, self._defaults, max(poll_at, now + timedelta(seconds=1)), now)
        more = gap_check.due or past_due is not None
        is_expected = poll_at <= rhythm.first_slot(connection.anchor)
        reason = NextPollReason.BACKFILL if more else NextPollReason.SLOT if is_expected else NextPollReason.SILENCE
        state = PollState(poll_at, 0, reason, self._visible_at(connection), gap_check, connection.backfill is not None)
        step = msgspec.structs.replace(rhythm, slowdown=1.0).step
        demand = self._demand.for_connection(connection, step.total_seconds())
        return PollReport(result, now if more else poll_at, state, origin, demand)

    async def _check_gaps(self, connection: Connection, gap_check: GapCheck) -> GapCheck:
        if not gap_check.due:
            return gap_check
        provider = self._providers[connection.id.provider]
        silence = connection.newest_reading_at if self._is_silent(connection, gap_check) else gap_check.silence_after
        more = await self._gap_keeper.check(connection, self.rhythm(connection), provider.capabilities)
        return GapCheck(silence, due=more)

    def _is_silent(self, connection: Connection, gap_check: GapCheck) -> bool:
        return is_silent(connection, gap_check, self.rhythm(connection), self._clock.now())

    def _visible_at(self, connection: Connection) -> datetime:
        return connection.anchor + self.rhythm(connection).delay

    def _next_poll_at(self, connection: Connection) -> datetime:
        return next_poll(connection.anchor, self._clock.now(), self.rhythm(connection))

    def rhythm(self, connection: Connection) -> Rhythm:
        """Return the timing of a connection from its settings, its learned cadence and the current slowdown."""
        capabilities = self._providers[connection.id.provider].capabilities
        learned = connection.cadence_seconds
        return Rhythm(
            self._defaults.interval(connection.worker),
            timedelta(seconds=learned) if learned else capabilities.cadence,
            capabilities.initial_delays[connection.region],
            connection.id.jitter,
            self._demand.slowdown_of(connection),
        )

    async def _handle_error(
        self, error: IngestError, connection_id: ConnectionId, connection: Connection | None, state: PollState
    ) -> PollReport:
        """Return the report for an expected error: outcome, new state of the connection, time of the retry."""
        now = self._clock.now()
        if isinstance(error, BudgetSpent):  # no request was made, so nothing failed
            later = now + error.wait
            if state.poll_at and state.poll_at > now:  # a backfill was refused; the live poll does not wait for it
                later = min(later, state.poll_at)
            return PollReport(
                PollResult(Outcome.BUDGET_SPENT), later, msgspec.structs.replace(state, reason=NextPollReason.BUDGET)
            )
        outcome = outcome_of(error)
        visible_at = self._visible_at(connection) if connection else state.visible_at
        backfill_pending = connection.backfill is not None if connection else state.backfill_pending
        failed_state = PollState(
            state.poll_at, state.failures + 1, NextPollReason.RETRY, visible_at, state.gap_check, backfill_pending
        )
        if outcome not in (Outcome.GRANT_BUSY, Outcome.FENCED) and not state.failures:
            log.warning("a poll failed", action="poll_failed", connection=str(connection_id), outcome=outcome)
        if connection is not None:
            with suppress(StoreError):
                if isinstance(error, GrantLost):
                    await self._require_reauthorization(connection)
                    return PollReport(PollResult(outcome), None)
                if isinstance(error, ProviderForbidden) and connection.state is ConnectionState.ACTIVE:
                    await self._connection_states.change(
                        connection, ConnectionState.PROVIDER_FORBIDDEN, "forbidden_by_provider"
                    )
                elif outcome is not Outcome.FENCED:
                    connection = await self._fetcher.record_outcome(connection, connection, outcome)
                    if self._is_silent(connection, state.gap_check):  # a poll without a fetch may not follow for long
                        due_check = msgspec.structs.replace(state.gap_check, due=True)
                        gap_check = await self._check_gaps(connection, due_check)
                        failed_state = msgspec.structs.replace(failed_state, gap_check=gap_check)
        jitter = connection.id.jitter if connection else 0
        slot = self._next_poll_at(connection) if connection else None
        due = retry_at(error, now, jitter=jitter, failures=failed_state.failures, slot=slot)
        return PollReport(PollResult(outcome), due, failed_state)

    async def _require_reauthorization(self, connection: Connection) -> None:
        """Change the state after a final refusal, if the refused grant is still the stored one."""
        _, grant = await self._connections.get_with_grant(connection.id)
        if grant is not None and grant.generation == connection.generation and grant.is_exhausted:
            await self._connection_states.change(
                connection, ConnectionState.REAUTHORIZATION_REQUIRED, "grant_refused_by_provider", refused_grant=grant
            )
