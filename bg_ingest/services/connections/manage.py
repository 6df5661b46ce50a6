"""Management of connections: status, worker settings, immediate polls, disconnects, requested backfill."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
from msgspec.structs import replace

from bg_ingest.domain.commits import ConnectionUpdate
from bg_ingest.domain.connections import POLLED_STATES, Connection, ConnectionState, PollDefaults
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.windows import Window
from bg_ingest.errors import Conflict, Fenced, NotFound, TransactionConflict
from bg_ingest.ports import Clock, Wakeups
from bg_ingest.services.connections.states import ConnectionStates
from bg_ingest.services.polling.poll import Poller
from bg_ingest.services.retries import retrying
from bg_ingest.store import Store


class Status(msgspec.Struct, frozen=True):
    """Connection with its effective settings."""

    connection: Connection
    poll_interval_seconds: int
    backfill_days: int
    backfill_done: float | None
    """Share of the backfill window that has been read, 0 to 1; None without a window."""
    next_poll_at: datetime | None
    """Next slot of the schedule; None while the connection is not polled."""


@dataclass(frozen=True)
class ConnectionService:
    store: Store
    poller: Poller
    connection_states: ConnectionStates
    clock: Clock
    wakeups: Wakeups
    defaults: PollDefaults

    async def status(self, connection: ConnectionId) -> Status:
        """Return the status; NotFound without a connection."""
        return self.status_of(await self._get_existing(connection))

    async def list_statuses(self, user: UserId) -> list[Status]:
        """Return the status of each connection of a user; NotFound without any."""
        connections = await self.store.connections.list_for_user(user)
        if not connections:
            raise NotFound
        return [self.status_of(connection) for connection in connections]

    @retrying(Fenced, TransactionConflict, tries=5)
    async def update_worker(self, connection: ConnectionId, **settings: int | bool | None) -> Status:
        """Change the given fields of WorkerSettings; None stands for the default.

        The change takes effect in whichever process polls the connection, without a restart.
        """
        before = await self._get_existing(connection)
        worker = replace(before.worker, **settings)
        after = replace(before, worker=worker)
        after = replace(_apply_pause(after), backfill=self._remaining_backfill(before, after))
        # Fenced, TransactionConflict: a poll changed the connection since the read, or is changing it
        if after.state is not before.state:
            await self.connection_states.commit(ConnectionUpdate(before, after, request_poll=True))
        elif after != before:
            await self.store.connections.update(before, after, request_poll=True)
        self.wakeups.wake_poller(connection)
        return self.status_of(after)

    async def poll_now(self, connection: ConnectionId) -> None:
        """Request a poll; Conflict while the connection is not polled."""
        existing = await self._get_existing(connection)
        if existing.state not in POLLED_STATES:
            paused = existing.state is ConnectionState.PAUSED
            remedy = "set paused to false first" if paused else "POST the connection again and follow its authorize_url"
            raise Conflict(f"the connection is {existing.state}: {remedy}")
        await self.store.inbox.request_poll(connection)
        self.wakeups.wake_poller(connection)

    @retrying(Fenced, tries=5)
    async def disconnect(self, connection: ConnectionId) -> None:
        """Stop polling and delete the credentials; the readings stay. Idempotent."""
        before = await self._get_existing(connection)
        if before.state is ConnectionState.CONNECTING:
            raise Conflict("it is not connected yet; an abandoned connect ends by itself within minutes")
        if before.state is ConnectionState.DISCONNECTED:
            return
        state, reason = ConnectionState.DISCONNECTED, "disconnected_by_request"
        await self.connection_states.change(before, state, reason, request_poll=True)
        self.wakeups.wake_poller(connection)

    @retrying(Fenced, TransactionConflict, tries=5)
    async def request_backfill(self, connection: ConnectionId, start: datetime | None, end: datetime | None) -> Window:
        """Add a window to the backfill and return it. Windows that were added earlier stay.

        Without ``start``, the window begins like the configured backfill window; without ``end``, it ends now. NotFound
        without the connection; Conflict if it is not polled, or the window is empty or in the future.
        """
        before = await self._get_existing(connection)
        if before.state not in POLLED_STATES:
            raise Conflict(f"the connection is {before.state}: nothing of it is read until it is active")
        requested = self._requested_window(before, start, end)
        after = replace(before, backfill=requested.before(requested.end, joining=before.backfill))
        # Fenced, TransactionConflict: as in ``update_worker``
        await self.store.connections.update(before, after, request_poll=True)
        self.wakeups.wake_poller(connection)
        return requested

    def _requested_window(self, connection: Connection, start: datetime | None, end: datetime | None) -> Window:
        now = self.clock.now()
        end = min(now, end or now)
        if start is None:
            initial = self.defaults.initial_backfill(connection) or connection.available
            start = initial.start if initial else connection.connected_at
        if start >= end:
            raise Conflict("there is nothing between these times: 'from' must be before 'to', and in the past")
        return Window(start, end)

    async def _get_existing(self, connection: ConnectionId) -> Connection:
        existing = await self.store.connections.get(connection)
        if existing is None:
            raise NotFound
        return existing

    def _remaining_backfill(self, before: Connection, after: Connection) -> Window | None:
        """Return the window that the backfill has still to read, after its configured length was changed.

        After a long silence, the backfill also contains time after the data that was available at the connect. This
        time does not depend on the configured length, and stays.
        """
        initial_before, initial = self.defaults.initial_backfill(before), self.defaults.initial_backfill(after)
        if initial == initial_before or before.available is None:
            return before.backfill
        remaining, available_end = before.backfill, before.available.end
        missed = remaining.since(available_end) if remaining else None
        if initial is None:
            return missed
        past = remaining.before(available_end) if remaining else None
        unread_until = past.end if past else (initial_before.start if initial_before else initial.end)
        return initial.before(unread_until, joining=missed)

    def status_of(self, connection: Connection) -> Status:
        initial, remaining = self.defaults.initial_backfill(connection), connection.backfill
        days = connection.worker.backfill_days
        return Status(
            connection,
            int(self.defaults.interval(connection.worker) / timedelta(seconds=1)),
            self.defaults.backfill_days if days is None else days,
            (1 - min(1, remaining.length / initial.length) if remaining else 1.0) if initial else None,
            self.poller.next_poll(connection) if connection.state in POLLED_STATES else None,
        )


def _apply_pause(connection: Connection) -> Connection:
    """Return the connection, paused or resumed as its settings say. A state that is neither polled nor paused stays."""
    paused = connection.worker.paused
    if paused and connection.state in POLLED_STATES:
        return replace(connection, state=ConnectionState.PAUSED, reason=None)
    if connection.state is ConnectionState.PAUSED and not paused:
        return replace(connection, state=ConnectionState.ACTIVE)
    return connection
