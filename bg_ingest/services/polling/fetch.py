"""Fetch of a live, backfill, sweep or repair window; record of the outcome; time of a retry."""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from operator import attrgetter

import msgspec
from msgspec.structs import replace

from bg_ingest import errors
from bg_ingest.domain.connections import Connection, ConnectionState, PollDefaults
from bg_ingest.domain.gap_detection import first_suspected_gap
from bg_ingest.domain.grants import Grant
from bg_ingest.domain.merging import CONTEXT_SECONDS, select_shown
from bg_ingest.domain.polling import Outcome, PollResult
from bg_ingest.domain.readings import Origin
from bg_ingest.domain.schedule import learn_cadence, learn_delay, next_retry
from bg_ingest.domain.windows import Window, live_window
from bg_ingest.ports import Clock, Page, Priority, Provider
from bg_ingest.services.connections.grants import Grants
from bg_ingest.services.connections.states import ConnectionStates
from bg_ingest.services.pauses import pause
from bg_ingest.services.polling.ingest import Ingester, with_progress
from bg_ingest.services.retries import retrying
from bg_ingest.store.connections import ConnectionStore
from bg_ingest.store.segments import SeriesRead

OUTCOME_INTERVAL = timedelta(hours=1)
"""Interval between two writes of an unchanged outcome."""

PRIORITIES = {Origin.LIVE: Priority.LIVE, Origin.BACKFILL: Priority.BACKFILL, Origin.SWEEP: Priority.REPAIR}


class Fetched(msgspec.Struct, frozen=True):
    result: PollResult
    connection: Connection
    """Connection as stored after the fetch."""


@dataclass(frozen=True)
class Fetcher:
    """Fetches a window, stores its readings and records the outcome. Every failure is raised."""

    connections: ConnectionStore
    providers: Mapping[str, Provider]
    grants: Grants
    ingester: Ingester
    connection_states: ConnectionStates
    clock: Clock
    defaults: PollDefaults

    async def live(
        self,
        connection: Connection,
        grant: Grant,
        epoch: int,
        previous_at: datetime | None = None,
        series: SeriesRead | None = None,
        *,
        early: bool = False,
    ) -> Fetched:
        """Fetch the readings up to the provider's present.

        ``previous_at`` is the provider's time at the previous answered live poll. ``series`` was read with the
        connection. ``early`` marks a requested poll before its slot. After a silence longer than ``longest_window``,
        the older part of the silence is added to the backfill.
        """
        now, max_window = self.provider_now(connection), self._max_window(connection)
        window = live_window(connection.watermark or now, now, overlap=self.defaults.overlap)
        after = replace(connection, epoch=epoch)
        if now - (connection.watermark or now) > max_window:
            # the backfill gets one day more than necessary, so that a silent sensor costs one more backfill call per
            # day, not one per poll
            reached = window.newest(max_window).start + timedelta(days=1)
            backfill = window.before(reached, joining=connection.backfill)
            after = replace(after, backfill=backfill, watermark=reached)
            # written before the fetch, because the first of several commits of a page already moves the watermark
            await self._update(connection, after)
            connection = after
        return await self._fetch(connection, after, grant, window, Origin.LIVE, previous_at, series, early=early)

    def provider_now(self, connection: Connection) -> datetime:
        """Return the time of the connection's provider."""
        return self.providers[connection.id.provider].now(connection.region)

    async def backfill(self, connection: Connection, grant: Grant, epoch: int, remaining: Window) -> Fetched:
        """Fetch the newest window of the remaining backfill."""
        window = remaining.newest(self._max_window(connection))
        after = replace(connection, epoch=epoch, backfill=remaining.before(window.start))
        return await self._fetch(connection, after, grant, window, Origin.BACKFILL)

    async def sweep(self, connection: Connection, grant: Grant, epoch: int, sweep_window: Window) -> Fetched:
        """Fetch a window again that was read before."""
        after = replace(connection, epoch=epoch, swept_at=self.clock.now())
        return await self._fetch(connection, after, grant, sweep_window, Origin.SWEEP)

    async def repair(
        self, connection: Connection, grant: Grant, epoch: int, repair_window: Window | None, next_at: datetime | None
    ) -> Fetched:
        """Fetch a gap again, if any is due, and store the time of the next repair."""
        after = replace(connection, epoch=epoch, repair_at=next_at)
        if repair_window is None:
            await self._update(connection, after)
            return Fetched(PollResult(Outcome.NOTHING_NEW), after)
        return await self._fetch(connection, after, grant, repair_window, Origin.SWEEP)

    async def record_outcome(self, stored: Connection, target: Connection, outcome: Outcome) -> Connection:
        """Write the part of the target that the fetch's commits did not write.

        Most fetches without new readings write nothing, because an unchanged outcome is written only hourly.
        """
        now = self.clock.now()
        with_old_outcome = replace(target, last_outcome=stored.last_outcome, outcome_at=stored.outcome_at)
        due = stored.last_outcome != outcome or stored.outcome_at is None or now - stored.outcome_at >= OUTCOME_INTERVAL
        if replace(with_old_outcome, epoch=stored.epoch) == stored and not due:
            return stored
        target = replace(target, last_outcome=outcome, outcome_at=now) if due else with_old_outcome
        await self._update(stored, target)
        return target

    @retrying(errors.TransactionConflict, first_wait=0.01)
    async def _update(self, before: Connection, after: Connection) -> None:
        """Write progress without readings. TransactionConflict: a commit of the user was in progress."""
        await self.connections.update(before, after)

    async def _fetch(
        self,
        connection: Connection,
        after: Connection,
        grant: Grant,
        window: Window,
        origin: Origin,
        previous_at: datetime | None = None,
        series: SeriesRead | None = None,
        *,
        early: bool = False,
    ) -> Fetched:
        """Fetch the newest part of the window, up to the longest window of one call."""
        provider, window = self.providers[after.id.provider], window.newest(self._max_window(after))
        is_first = connection.newest_reading_at is None  # a new user waits for the first reading
        priority = Priority.LIVE if is_first else Priority.REQUESTED if early else PRIORITIES[origin]
        region = after.region
        page = await self.grants.use(after, grant, lambda held: provider.readings(region, held, window, priority))
        if page.provider_account != connection.provider_account:
            raise errors.ProviderMisbehaved("the answer belongs to another account of the provider")
        if connection.state is ConnectionState.PROVIDER_FORBIDDEN:
            connection = await self.connection_states.change(connection, ConnectionState.ACTIVE, None)
            after = replace(after, state=ConnectionState.ACTIVE, reason=None)
        if cadence := _learn_cadence(page):
            after = replace(after, cadence_seconds=int(cadence.total_seconds()))
        after = replace(after, delay_seconds=self._learn_delay(after, page, previous_at))
        await pause()  # before and after the choice of the shown readings, which takes 9 ms for 30 days
        after = replace(after, suspected_gap_at=connection.suspected_gap_at or self._first_suspected_gap(after, page))
        await pause()
        read = replace(after, last_outcome=Outcome.READ, outcome_at=self.clock.now())
        result, stored = await self.ingester.ingest(connection, page, origin=origin, after=read, prefetched=series)
        after = with_progress(after, page.readings, self.clock.now())
        return Fetched(result, await self.record_outcome(stored, after, result.outcome))

    def _learn_delay(self, connection: Connection, page: Page, previous_at: datetime | None) -> int | None:
        """Return the delay in whole seconds as learned from a page; ``connection`` is as before the page."""
        if not page.readings:
            return connection.delay_seconds
        capabilities = self.providers[connection.id.provider].capabilities
        usual, newest = capabilities.initial_delays[connection.region], connection.newest_reading_at
        known = usual if connection.delay_seconds is None else timedelta(seconds=connection.delay_seconds)
        fresh = (reading.measured_at for reading in page.readings if newest and reading.measured_at > newest)
        first = next(fresh, None)
        delay = learn_delay(
            known,
            self.provider_now(connection) - page.readings[-1].measured_at,
            previous_at - first if previous_at and first else None,
            capabilities.cadence_of(connection.cadence_seconds),
        )
        return connection.delay_seconds if delay is None else ceil(delay.total_seconds())

    def _first_suspected_gap(self, connection: Connection, page: Page) -> datetime | None:
        """Return the time of the first reading that follows a suspected gap.

        Only readings after ``newest_reading_at`` are checked, because the fetch that returns a reading for the first
        time surely includes the reading before it. A later fetch of the same reading may begin between the two.
        """
        cadence = self.providers[connection.id.provider].capabilities.cadence_of(connection.cadence_seconds)
        since, first = connection.newest_reading_at, 0
        if since is not None:
            if not page.readings or page.readings[-1].measured_at <= since:
                return None
            context = since - timedelta(seconds=2 * CONTEXT_SECONDS)
            # the reading before it is the neighbour if the provider has withdrawn those in between
            first = max(0, bisect_left(page.readings, context, key=attrgetter("measured_at")) - 1)
        shown = select_shown(page.readings[first:], lambda reading: reading)
        return first_suspected_gap(shown, int(cadence.total_seconds()), since=since)

    def _max_window(self, connection: Connection) -> timedelta:
        return self.providers[connection.id.provider].capabilities.longest_window


def _learn_cadence(page: Page) -> timedelta | None:
    """Return the cadence of the newest reading's sensor. Readings that are not shown do not count."""
    shown = select_shown(page.readings[-100:], lambda reading: reading)
    sensor = shown[-1].device.sensor if shown else None
    return learn_cadence([reading.measured_at for reading in shown[-50:] if reading.device.sensor == sensor])


THROTTLED_WAIT = timedelta(minutes=1)
"""Wait of a throttled poll if the provider states none."""

FORBIDDEN_WAIT = timedelta(hours=6)
"""Only an operator can remove the cause. A later retry then succeeds."""

OUTCOMES: dict[type[errors.IngestError], Outcome] = {
    errors.GrantBusy: Outcome.GRANT_BUSY,
    errors.GrantRefused: Outcome.REFUSED,
    errors.GrantLost: Outcome.REFUSED,
    errors.ProviderThrottled: Outcome.THROTTLED,
    errors.ProviderUnavailable: Outcome.UNAVAILABLE,
    errors.ProviderMisbehaved: Outcome.MISBEHAVED,
    errors.ProviderForbidden: Outcome.FORBIDDEN,
    errors.ItemTooLarge: Outcome.MISBEHAVED,  # the provider's data is too large to be stored
    errors.StoreUnavailable: Outcome.STORE_UNAVAILABLE,
    errors.SealBroken: Outcome.UNSEALABLE,
    errors.Fenced: Outcome.FENCED,
}


def outcome_of(error: errors.IngestError) -> Outcome:
    return next((outcome for kind, outcome in OUTCOMES.items() if isinstance(error, kind)), Outcome.STORE_UNAVAILABLE)


def retry_at(
    error: errors.IngestError, now: datetime, *, jitter: float, failures: int, slot: datetime | None
) -> datetime:
    """Return the time of the retry: after the wait for this kind of error, else by ``next_retry``.

    The connection's jitter lengthens the wait of a throttled poll by up to a quarter, so that retries are spread.
    """
    if isinstance(error, errors.GrantError) and error.wait:
        return now + error.wait
    if isinstance(error, errors.ProviderThrottled):
        return now + (error.wait or THROTTLED_WAIT) * (1 + jitter / 4)
    if isinstance(error, errors.ProviderForbidden):
        return now + FORBIDDEN_WAIT
    return next_retry(failures, now, slot)
