"""Fetches of one poll: live, backfill, sweep or repair window, and the record of the outcome."""

from collections.abc import Mapping
from datetime import datetime, timedelta

import msgspec

from bg_ingest.domain.connections import Connection, ConnectionState, PollDefaults
from bg_ingest.domain.gap_detection import first_suspected_gap
from bg_ingest.domain.grants import Credentials, Grant
from bg_ingest.domain.polling import Outcome, PollResult
from bg_ingest.domain.readings import Origin
from bg_ingest.domain.schedule import learn_cadence
from bg_ingest.domain.windows import Window, live_window
from bg_ingest.errors import ProviderMisbehaved
from bg_ingest.ports import Clock, Page, Priority, Provider
from bg_ingest.services.connections.grants import Grants
from bg_ingest.services.connections.states import ConnectionStates
from bg_ingest.services.polling.ingest import Ingester, with_progress
from bg_ingest.store.connections import ConnectionStore

OUTCOME_INTERVAL = timedelta(hours=1)
"""Longest age of the stored outcome while it stays the same."""

PRIORITIES = {Origin.LIVE: Priority.LIVE, Origin.BACKFILL: Priority.BACKFILL, Origin.SWEEP: Priority.REPAIR}


class Fetched(msgspec.Struct, frozen=True):
    """Result of one fetch."""

    result: PollResult
    connection: Connection
    """Connection as stored after the fetch."""


class Fetcher:
    """Fetches a window, stores its readings and records the outcome; raises every failure."""

    def __init__(
        self,
        connections: ConnectionStore,
        providers: Mapping[str, Provider],
        grants: Grants,
        ingester: Ingester,
        connection_states: ConnectionStates,
        clock: Clock,
        defaults: PollDefaults,
    ) -> None:
        self._connections = connections
        self._providers = providers
        self._grants = grants
        self._ingester = ingester
        self._connection_states = connection_states
        self._clock = clock
        self._defaults = defaults

    async def live(self, connection: Connection, grant: Grant, epoch: int) -> Fetched:
        """Fetch new readings. After a silence longer than one window, the older part joins the backfill."""
        now, max_window = self._clock.now(), self._max_window(connection)
        window = live_window(connection.watermark or now, now, overlap=self._defaults.overlap)
        after = msgspec.structs.replace(connection, epoch=epoch)
        if now - (connection.watermark or now) > max_window:
            # a day of reserve, so that a silent sensor costs one more call per day, not one per poll
            reached = window.newest(max_window).start + timedelta(days=1)
            backfill = window.before(reached, joining=connection.backfill)
            after = msgspec.structs.replace(after, backfill=backfill, watermark=reached)
            # before the fetch, because the commits of a long page move the watermark one by one
            await self._connections.update(connection, after)
            connection = after
        return await self._fetch(connection, after, grant, window.newest(max_window), Origin.LIVE)

    async def backfill(self, connection: Connection, grant: Grant, epoch: int, remaining: Window) -> Fetched:
        """Fetch the newest window of the backfill that is still to be read."""
        window = remaining.newest(self._max_window(connection))
        after = msgspec.structs.replace(connection, epoch=epoch, backfill=remaining.before(window.start))
        return await self._fetch(connection, after, grant, window, Origin.BACKFILL)

    async def sweep(self, connection: Connection, grant: Grant, epoch: int, sweep_window: Window) -> Fetched:
        """Fetch a window again that was read before."""
        after = msgspec.structs.replace(connection, epoch=epoch, swept_at=self._clock.now())
        return await self._fetch(
            connection, after, grant, sweep_window.newest(self._max_window(connection)), Origin.SWEEP
        )

    async def repair(
        self, connection: Connection, grant: Grant, epoch: int, repair_window: Window | None, next_at: datetime | None
    ) -> Fetched:
        """Fetch a gap again, if any is due, and store the time of the next repair."""
        after = msgspec.structs.replace(connection, epoch=epoch, repair_at=next_at)
        if repair_window is None:
            await self._connections.update(connection, after)
            return Fetched(PollResult(Outcome.NOTHING_NEW), after)
        return await self._fetch(
            connection, after, grant, repair_window.newest(self._max_window(connection)), Origin.SWEEP
        )

    async def record_outcome(self, stored: Connection, target: Connection, outcome: Outcome) -> Connection:
        """Write the part of the target that the fetch's commits did not write.

        A fetch without news mostly writes nothing.
        """
        now = self._clock.now()
        same = msgspec.structs.replace(target, last_outcome=stored.last_outcome, outcome_at=stored.outcome_at)
        due = stored.last_outcome != outcome or stored.outcome_at is None or now - stored.outcome_at >= OUTCOME_INTERVAL
        if msgspec.structs.replace(same, epoch=stored.epoch) == stored and not due:
            return stored
        target = _with_outcome(target, outcome, now) if due else same
        await self._connections.update(stored, target)
        return target

    async def _fetch(
        self, connection: Connection, after: Connection, grant: Grant, window: Window, origin: Origin
    ) -> Fetched:
        provider = self._providers[after.id.provider]
        is_first = connection.newest_reading_at is None  # a new user waits for it
        priority = Priority.LIVE if is_first else PRIORITIES[origin]

        async def ask(credentials: Credentials) -> Page:
            return await provider.readings(after.region, credentials, window, priority)

        page = await self._grants.use(after, grant, ask)
        if page.provider_account != connection.provider_account:
            raise ProviderMisbehaved("the answer belongs to another account of the provider")
        if connection.state is ConnectionState.PROVIDER_FORBIDDEN:
            connection = await self._connection_states.change(connection, ConnectionState.ACTIVE, None)
            after = msgspec.structs.replace(after, state=ConnectionState.ACTIVE, reason=None)
        if cadence := learn_cadence([reading.measured_at for reading in page.readings[-50:]]):
            after = msgspec.structs.replace(after, cadence_seconds=int(cadence.total_seconds()))
        after = msgspec.structs.replace(
            after, suspected_gap_at=connection.suspected_gap_at or self._first_suspected_gap(after, page)
        )
        result, stored = await self._ingester.ingest(
            connection, page, origin=origin, after=_with_outcome(after, Outcome.READ, self._clock.now())
        )
        recorded = await self.record_outcome(
            stored, with_progress(after, page.readings, self._clock.now()), result.outcome
        )
        return Fetched(result, recorded)

    def _first_suspected_gap(self, connection: Connection, page: Page) -> datetime | None:
        """Return the first reading with a suspected gap before it.

        Only the first fetch of a reading surely includes the time before it; later ones may begin in between.
        """
        default_cadence = self._providers[connection.id.provider].capabilities.cadence
        cadence = connection.cadence_seconds or int(default_cadence.total_seconds())
        return first_suspected_gap(page.readings, cadence, since=connection.newest_reading_at)

    def _max_window(self, connection: Connection) -> timedelta:
        return self._providers[connection.id.provider].capabilities.longest_window


def _with_outcome(connection: Connection, outcome: Outcome, at: datetime) -> Connection:
    return msgspec.structs.replace(connection, last_outcome=outcome, outcome_at=at)
