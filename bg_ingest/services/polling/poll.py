"""One poll of a connection, and the time of the next."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from msgspec.structs import replace

from bg_ingest.domain import polling
from bg_ingest.domain.connections import POLLED_STATES, Connection, ConnectionState, PollDefaults
from bg_ingest.domain.grants import Grant
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.schedule import Rhythm, next_poll
from bg_ingest.errors import (
    BudgetSpent,
    Fenced,
    GrantLost,
    IngestError,
    ProviderBlocked,
    ProviderForbidden,
    StoreError,
)
from bg_ingest.ports import Clock, Observer, Provider
from bg_ingest.services.budget.demand import Demand
from bg_ingest.services.connections.states import ConnectionStates
from bg_ingest.services.polling.fetch import Fetched, Fetcher, outcome_of, retry_at
from bg_ingest.services.polling.gaps import GapKeeper
from bg_ingest.store import Store

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True)
class Poller:
    """Polls connections. No state is kept between polls, so that any process may run any poll."""

    store: Store
    providers: Mapping[str, Provider]
    fetcher: Fetcher
    gap_keeper: GapKeeper
    connection_states: ConnectionStates
    clock: Clock
    defaults: PollDefaults
    demand: Demand
    observer: Observer

    async def poll(
        self, connection_id: ConnectionId, epoch: int, state: polling.PollState, *, requested: bool = False
    ) -> polling.PollReport:
        """Run one poll: a live one if due or ``requested``, else one window of the other kinds, else a gap check.

        An expected error becomes the outcome. An unexpected error is raised.
        """
        with self.observer.poll(connection_id, epoch) as observation:
            report = await self._poll(connection_id, epoch, state, requested=requested)
            observation.finish(report)
        return report

    async def _poll(
        self, connection_id: ConnectionId, epoch: int, state: polling.PollState, *, requested: bool
    ) -> polling.PollReport:
        slot = state.poll_at
        if requested:
            # due from now on, until a poll has succeeded
            state = replace(state, poll_at=self.clock.now())
        connection, kind = None, None
        try:
            segments = state.segments(self.defaults, self.clock.now())
            connection, grant, series = await self.store.connections.get_for_poll(connection_id, segments)
            if connection is None or grant is None or connection.state not in POLLED_STATES:
                return polling.PollReport(polling.PollResult(polling.Outcome.INACTIVE), None)
            if connection.epoch > epoch:  # its shard was taken, and its new owner has written
                raise Fenced
            poll_at = state.poll_at or self._first_slot(connection)
            kind = polling.choose_kind(connection, self.defaults, poll_at, self.clock.now())
            if kind is None:
                gap_check = await self._check_gaps(connection, state.gap_check)
                idle_state = replace(state, poll_at=poll_at, gap_check=gap_check)
                return self._report(connection, polling.PollResult(polling.Outcome.NOT_DUE), idle_state)
            early = requested and self.clock.now() < (slot or self._first_slot(connection))
            provider_now = self.fetcher.provider_now(connection)
            if kind is polling.PollKind.LIVE:
                fetched = await self.fetcher.live(connection, grant, epoch, state.live_at, series, early=early)
            else:
                fetched = await self._fetch(kind, connection, grant, epoch)
        except IngestError as error:
            report = await self._handle_error(error, connection_id, connection, state)
            return replace(report, origin=polling.ORIGINS.get(kind))
        # without a reading, the newest part of the backfill serves as the live poll
        if kind is polling.PollKind.LIVE or connection.newest_reading_at is None:
            poll_at = self.next_poll(fetched.connection)
        if kind is polling.PollKind.LIVE:
            state = replace(state, live_at=provider_now)
        connection, result, now = fetched.connection, fetched.result, self.clock.now()
        rhythm = self.rhythm(connection)
        gap_check = polling.gap_check_after(kind, connection, state.gap_check, rhythm, now, late=result.late > 0)
        state = replace(state, poll_at=poll_at, gap_check=gap_check)
        return replace(self._report(connection, result, state), origin=polling.ORIGINS[kind])

    def report_without_fetch(self, connection: Connection) -> polling.PollReport | None:
        """Return the report of the first poll, computed without a request to the provider.

        If the first poll has to make a request, the report has no due time, and the caller chooses one.
        None for a connection that is not polled.
        """
        if connection.state not in POLLED_STATES:
            return None
        poll_at = self._first_slot(connection)
        state = polling.PollState(poll_at)
        report = self._report(connection, polling.PollResult(polling.Outcome.NOT_DUE), state)
        if polling.choose_kind(connection, self.defaults, poll_at, self.clock.now()) is None:
            return report
        return replace(report, due=None, state=replace(report.state, reason=polling.NextPollReason.START))

    async def _fetch(self, kind: polling.PollKind, connection: Connection, grant: Grant, epoch: int) -> Fetched:
        if kind is polling.PollKind.SWEEP and (sweep_window := self.defaults.sweep(connection, self.clock.now())):
            return await self.fetcher.sweep(connection, grant, epoch, sweep_window)
        if kind is polling.PollKind.REPAIR:
            repair_window, next_at = await self.gap_keeper.due_repair(connection)
            return await self.fetcher.repair(connection, grant, epoch, repair_window, next_at)
        if kind is polling.PollKind.BACKFILL and connection.backfill:
            return await self.fetcher.backfill(connection, grant, epoch, connection.backfill)
        return await self.fetcher.live(connection, grant, epoch)

    def _report(
        self, connection: Connection, result: polling.PollResult, state: polling.PollState
    ) -> polling.PollReport:
        """Return the report of a poll that did not fail. ``state.poll_at`` is the due time of the next live poll."""
        if state.failure_logged:
            log.info("polls succeed again", action="poll_recovered", connection=str(connection.id))
        now, poll_at = self.clock.now(), state.poll_at or self._first_slot(connection)
        rhythm = self.rhythm(connection)
        other_kind = polling.choose_kind(connection, self.defaults, max(poll_at, now + timedelta(seconds=1)), now)
        more = state.gap_check.due or other_kind is not None
        # only a silence moves the slot by a minute or more; a new estimate of the provider's clock moves it by a second
        is_expected = poll_at < self._first_slot(connection) + timedelta(minutes=1)
        reason = polling.NextPollReason.SLOT if is_expected else polling.NextPollReason.SILENCE
        state = replace(
            state,
            failures=0,
            failure_logged=False,
            blocked=0,
            reason=polling.NextPollReason.MORE_TO_READ if more else reason,
            visible_at=connection.anchor + rhythm.delay,
            backfill_pending=connection.backfill is not None,
            watermark=connection.watermark,
        )
        step = replace(rhythm, slowdown=1.0).step
        demand = self.demand.for_connection(connection, step.total_seconds())
        return polling.PollReport(result, now if more else poll_at, state, demand=demand)

    async def _check_gaps(self, connection: Connection, gap_check: polling.GapCheck) -> polling.GapCheck:
        if not gap_check.due:
            return gap_check
        provider = self.providers[connection.id.provider]
        silence = connection.newest_reading_at if self._is_silent(connection, gap_check) else gap_check.silence_after
        more = await self.gap_keeper.check(connection, self.rhythm(connection), provider.capabilities)
        return polling.GapCheck(silence, due=more)

    def _is_silent(self, connection: Connection, gap_check: polling.GapCheck) -> bool:
        return polling.is_silent(connection, gap_check, self.rhythm(connection), self.clock.now())

    def next_poll(self, connection: Connection) -> datetime:
        """Return the next slot. Slots follow measurements on the provider's clock; the result is on our clock."""
        ahead = self._provider_ahead(connection)
        return next_poll(connection.anchor, self.clock.now() + ahead, self.rhythm(connection)) - ahead

    def _first_slot(self, connection: Connection) -> datetime:
        return self.rhythm(connection).first_slot(connection.anchor) - self._provider_ahead(connection)

    def _provider_ahead(self, connection: Connection) -> timedelta:
        """Return the time by which the provider's clock is ahead of ours."""
        return self.fetcher.provider_now(connection) - self.clock.now()

    def rhythm(self, connection: Connection) -> Rhythm:
        """Return the timing of a connection: its settings, learned cadence and delay, and the current slowdown."""
        capabilities = self.providers[connection.id.provider].capabilities
        return Rhythm(
            self.defaults.interval(connection.worker),
            capabilities.cadence_of(connection.cadence_seconds),
            capabilities.delay(connection.region, connection.delay_seconds),
            connection.id.jitter,
            self.demand.sustained_slowdown(connection),
        )

    async def _handle_error(
        self, error: IngestError, connection_id: ConnectionId, connection: Connection | None, state: polling.PollState
    ) -> polling.PollReport:
        """Return the report for an expected error: outcome, state of the polls, time of the retry."""
        now = self.clock.now()
        if isinstance(error, BudgetSpent):  # no request was made, so nothing failed
            retry_due = now + error.wait
            # if a backfill, sweep or repair got no call, the live poll keeps its time
            if state.poll_at and state.poll_at > now:
                retry_due = min(retry_due, state.poll_at)
            return polling.PollReport(
                polling.PollResult(polling.Outcome.BUDGET_SPENT),
                retry_due,
                replace(state, reason=polling.NextPollReason.BUDGET),
            )
        blocked = state.blocked + 1 if isinstance(error, ProviderBlocked) else 0
        if blocked > polling.MAX_BLOCKED:
            error = ProviderForbidden()
        outcome = outcome_of(error)
        visible_at = connection.anchor + self.rhythm(connection).delay if connection else state.visible_at
        backfill_pending = connection.backfill is not None if connection else state.backfill_pending
        is_failure = outcome not in (polling.Outcome.GRANT_BUSY, polling.Outcome.FENCED)
        if is_failure and not state.failure_logged:
            log.warning("a poll failed", action="poll_failed", connection=str(connection_id), outcome=outcome)
        failed_state = replace(
            state,
            failures=state.failures + 1,
            failure_logged=state.failure_logged or is_failure,
            blocked=blocked,
            reason=polling.NextPollReason.RETRY,
            visible_at=visible_at,
            backfill_pending=backfill_pending,
        )
        if connection is not None:
            with suppress(StoreError):
                if isinstance(error, GrantLost):
                    await self._require_reauthorization(connection)
                    return polling.PollReport(polling.PollResult(outcome), None)
                if isinstance(error, ProviderForbidden) and connection.state is ConnectionState.ACTIVE:
                    forbidden = ConnectionState.PROVIDER_FORBIDDEN
                    await self.connection_states.change(connection, forbidden, "forbidden_by_provider")
                elif outcome is not polling.Outcome.FENCED:
                    connection = await self.fetcher.record_outcome(connection, connection, outcome)
                    if self._is_silent(connection, state.gap_check):  # the next check may otherwise be much later
                        gap_check = await self._check_gaps(connection, replace(state.gap_check, due=True))
                        failed_state = replace(failed_state, gap_check=gap_check)
        jitter = connection.id.jitter if connection else 0
        slot = self.next_poll(connection) if connection else None
        due = retry_at(error, now, jitter=jitter, failures=failed_state.failures, slot=slot)
        return polling.PollReport(polling.PollResult(outcome), due, failed_state)

    async def _require_reauthorization(self, connection: Connection) -> None:
        """Change the state after a final refusal, if the refused grant is still the stored one."""
        _, grant = await self.store.connections.get_with_grant(connection.id)
        if grant is not None and grant.generation == connection.generation and grant.is_exhausted:
            await self.connection_states.change(
                connection, ConnectionState.REAUTHORIZATION_REQUIRED, "grant_refused_by_provider", refused_grant=grant
            )
