"""Timelines: events of this process in memory, joined with the events in stored rows."""

from collections import OrderedDict, deque
from collections.abc import Callable
from types import TracebackType

from bg_ingest.domain import timeline
from bg_ingest.domain.grants import Grant
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.polling import Outcome, PollReport, PollResult
from bg_ingest.errors import NotFound
from bg_ingest.ports import Clock, Observation, Observer
from bg_ingest.services.polling.poll import Poller
from bg_ingest.store import Store

MAX_CONNECTIONS, MAX_EVENTS_EACH = 2_000, 30
"""Bounds of the memory: about 12 MB."""


class RecentEvents(Observer):
    """Recent polls, webhooks and refreshes of up to ``MAX_CONNECTIONS`` connections, in memory.

    If there are more connections, those with the most recent trouble are kept, because users ask about those.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._events: OrderedDict[ConnectionId, deque[timeline.TimelineEvent]] = OrderedDict()

    def poll(self, connection: ConnectionId, epoch: int) -> Observation[PollReport]:
        del epoch
        return PollMemory(connection, self)

    def add_poll(self, connection: ConnectionId, report: PollReport) -> None:
        """Add a poll, unless it made no request to the provider."""
        outcome = report.result.outcome
        if outcome not in (Outcome.NOT_DUE, Outcome.INACTIVE):
            troubled = outcome not in (Outcome.READ, Outcome.NOTHING_NEW)
            self._add(connection, timeline.poll_event(report, self._clock.now()), troubled=troubled)

    def webhook(self, connection: ConnectionId, result: PollResult | None) -> None:
        self._add(connection, timeline.webhook_event(result, self._clock.now()), troubled=False)

    def grant_stored(self, grant: Grant) -> None:
        self._add(grant.id, timeline.grant_event(grant, self._clock.now()), troubled=grant.retry_at is not None)

    def list_for(self, connection: ConnectionId) -> list[timeline.TimelineEvent]:
        """Return the events of a connection, oldest first."""
        return [*self._events.get(connection, ())]

    def _add(self, connection: ConnectionId, event: timeline.TimelineEvent, *, troubled: bool) -> None:
        known = connection in self._events
        if not known and not troubled and len(self._events) >= MAX_CONNECTIONS:
            return
        self._events.setdefault(connection, deque(maxlen=MAX_EVENTS_EACH)).append(event)
        if troubled:
            self._events.move_to_end(connection)
        if len(self._events) > MAX_CONNECTIONS:
            self._events.popitem(last=False)


class PollMemory(Observation[PollReport]):
    """Adds the report of a poll to the recent events. A poll that crashed has no report."""

    __slots__ = ("_connection", "_events")

    def __init__(self, connection: ConnectionId, events: RecentEvents) -> None:
        super().__init__()
        self._connection = connection
        self._events = events

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.result is not None:
            self._events.add_poll(self._connection, self.result)


MAX_CHANGES = 50
"""Changes of the user read for one answer: one batch."""


class TimelineQueries:
    """Reads the timeline of a connection in three reads. Nothing is written for it in advance."""

    def __init__(self, store: Store, poller: Poller, events: RecentEvents, clock: Clock) -> None:
        self._store = store
        self._poller = poller
        self._recent_events = events
        self._clock = clock

    async def read(
        self, connection_id: ConnectionId, find_next_poll: Callable[[ConnectionId], timeline.NextPoll | None]
    ) -> timeline.Timeline:
        """Return the timeline of a connection; NotFound without the connection.

        ``find_next_poll`` returns the next poll if this process polls the connection, else None.
        """
        connection, grant = await self._store.connections.get_with_grant(connection_id)
        if connection is None:
            raise NotFound
        next_poll = find_next_poll(connection_id)
        # earlier events may belong to a person who has been erased since
        seen = [event for event in self._recent_events.list_for(connection_id) if event.at >= connection.connected_at]
        events = [*timeline.stored_events(connection, grant, seen), *seen, *await self._change_events(connection_id)]
        rhythm, now = self._poller.rhythm(connection), self._clock.now()
        return timeline.Timeline(
            connection,
            next_poll or timeline.next_scheduled_poll(connection, rhythm, now),
            tuple(sorted(events, key=lambda event: event.at, reverse=True)),
            next_poll is not None,
        )

    async def _change_events(self, connection: ConnectionId) -> list[timeline.TimelineEvent]:
        head = await self._store.readings.head(connection.user)
        last = head.last_change if head else 0
        changes = await self._store.changes.read(connection.user, max(1, last - MAX_CHANGES + 1), last)
        return [event for change in changes if (event := timeline.change_event(change, connection.provider))]
