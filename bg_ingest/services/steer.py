"""What may be asked of a connection: how it stands, other settings, a look now, its end."""

from datetime import datetime, timedelta

import msgspec

from bg_ingest.domain.commits import Step
from bg_ingest.domain.connections import POLLED, Connection, Defaults, State
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.schedule import next_poll
from bg_ingest.domain.windows import Window
from bg_ingest.errors import Conflicted, Fenced, NotPossible, StoreUnavailable, Unknown
from bg_ingest.ports import Clock, Hints, Store
from bg_ingest.services.poll import Polling
from bg_ingest.services.transition import Transition

TRIES = 5


class Status(msgspec.Struct, frozen=True):
    """How a connection stands, with the settings in force."""

    connection: Connection
    poll_interval_seconds: int
    backfill_days: int
    backfill_done: float | None
    """What share of the wanted past has been read, 0 to 1; None when there is none to read."""
    next_poll_at: datetime | None
    """The next slot by the schedule, where the connection is polled at all."""


class Steering:
    """Answers about connections and changes them."""

    def __init__(
        self,
        store: Store,
        polling: Polling,
        transition: Transition,
        clock: Clock,
        hints: Hints,
        defaults: Defaults,
    ) -> None:
        self._connections = store.connections
        self._rings = store.rings
        self._polling = polling
        self._transition = transition
        self._clock = clock
        self._hints = hints
        self._defaults = defaults

    async def status(self, connection: ConnectionId) -> Status:
        """Return how it stands; Unknown when there is none."""
        return self.shown(await self._existing(connection))

    async def of_user(self, user: UserId) -> list[Status]:
        """Return all of a user's connections; Unknown when there is none."""
        connections = await self._connections.of_user(user)
        if not connections:
            raise Unknown
        return [self.shown(each) for each in connections]

    async def change(self, connection: ConnectionId, **settings: int | bool | None) -> Status:
        """Change some of the worker settings (named as in WorkerSettings), the rest stays; None is the default.

        It takes effect wherever the connection is polled, without a restart.
        """
        for _ in range(TRIES):
            before = await self._existing(connection)
            worker = msgspec.structs.replace(before.worker, **settings)
            after = msgspec.structs.replace(before, worker=worker)
            after = msgspec.structs.replace(_paused_or_not(after), backfill=self._wanted(before, after))
            try:
                if after.state is not before.state:
                    await self._transition.commit(Step(before, after, look=True))
                elif after != before:
                    await self._connections.note(before, after, look=True)
            except (Fenced, Conflicted):  # a poll moved it between our read and write, or is about to
                continue
            self._hints.look(connection)
            return self.shown(after)
        raise StoreUnavailable("too many writers at once")

    async def poll_now(self, connection: ConnectionId) -> None:
        """Look at the provider now; NotPossible while the connection is not polled at all."""
        existing = await self._existing(connection)
        if existing.state not in POLLED:
            raise NotPossible(f"the connection is {existing.state}: {_remedy(existing.state)}")
        await self._rings.ring(connection)
        self._hints.look(connection)

    async def disconnect(self, connection: ConnectionId) -> None:
        """Stop polling and forget the credentials; the readings stay. Doing it again changes nothing."""
        for _ in range(TRIES):
            before = await self._existing(connection)
            if before.state is State.CONNECTING:
                raise NotPossible("it is not connected yet; an abandoned connect ends by itself within minutes")
            if before.state is State.DISCONNECTED:
                return
            try:
                await self._transition.enter(before, State.DISCONNECTED, "disconnected_by_request", look=True)
            except Fenced:
                continue
            self._hints.look(connection)
            return
        raise StoreUnavailable("too many writers at once")

    async def _existing(self, connection: ConnectionId) -> Connection:
        found = await self._connections.get(connection)
        if found is None:
            raise Unknown
        return found

    def _wanted(self, before: Connection, after: Connection) -> Window | None:
        """Return what is left to read when more or less of the past is wanted.

        What was missed since the connect, in a long silence, is not of that past: it stays.
        """
        was, wanted = self._defaults.wanted_past(before), self._defaults.wanted_past(after)
        if wanted == was or before.available is None:
            return before.backfill
        left, connected = before.backfill, before.available.end
        missed = left.since(connected) if left else None
        if wanted is None:
            return missed
        past = left.before(connected) if left else None
        unread_until = past.end if past else (was.start if was else wanted.end)
        return wanted.before(unread_until, joining=missed)

    def shown(self, connection: Connection) -> Status:
        """Return how a connection that was read stands."""
        wanted, left = self._defaults.wanted_past(connection), connection.backfill
        days = connection.worker.backfill_days
        rhythm = self._polling.rhythm(connection) if connection.state in POLLED else None
        return Status(
            connection,
            int(self._defaults.interval(connection.worker) / timedelta(seconds=1)),
            self._defaults.backfill_days if days is None else days,
            (1 - min(1, left.length / wanted.length) if left else 1.0) if wanted else None,
            next_poll(connection.anchor, self._clock.now(), rhythm) if rhythm else None,
        )


def _paused_or_not(connection: Connection) -> Connection:
    """Return it in the state that its settings ask for; where it cannot be polled anyway, they wait."""
    paused = connection.worker.paused
    if paused and connection.state in POLLED:
        return msgspec.structs.replace(connection, state=State.PAUSED, reason=None)
    if connection.state is State.PAUSED and not paused:
        return msgspec.structs.replace(connection, state=State.ACTIVE)
    return connection


def _remedy(state: State) -> str:
    if state is State.PAUSED:
        return "set paused to false first"
    return "POST the connection again and follow its authorize_url"
