"""Supply of events for all streams of this process.

The hub keeps the last change number of each watched user, and reads an event once for all streams of the user.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from operator import attrgetter

import anyio
import structlog
from anyio.abc import TaskGroup, TaskStatus
from anyio.lowlevel import checkpoint

from bg_ingest.domain.changes import Change, UserErased
from bg_ingest.domain.commits import Head
from bg_ingest.domain.ids import UserId
from bg_ingest.errors import NotFound, StoreError, TooManyStreams
from bg_ingest.ports import ChangeHints, Clock, Hint, Observer
from bg_ingest.services.queries.changes import ChangeQueries
from bg_ingest.services.queries.event_reads import WOKEN_AT_ONCE, EventReads
from bg_ingest.services.queries.many_users import EventOf, Snapshot, Unknown
from bg_ingest.services.queries.shared_events import EventReader, SharedEvents
from bg_ingest.services.queries.stream import ChangeStream, EndReason, StreamClient, StreamLimits
from bg_ingest.services.queries.stream_checks import StreamChecks
from bg_ingest.store import Store

MAX_STREAMS_PER_CREDENTIAL = 100

RECONCILE_SECONDS, UNHINTED_SECONDS = 60.0, 5.0
"""Seconds between two reads of the heads of all watched users: with hints of other replicas, and without."""

RECONCILE_BATCH = 100
"""Heads of one read. To decode those of 1,000 users at once would block the event loop for 25 ms."""

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class EventHub(Observer):
    """Opens streams and, as an actor, keeps them supplied.

    A stream that has all earlier events receives a change committed by this process from memory. A hint of another
    replica only causes a read. The hub reconciles its numbers with the heads, so that a lost hint delays an event, but
    no event is lost. Streams end as the drain begins.
    """

    def __init__(
        self,
        store: Store,
        changes: ChangeQueries,
        hints: ChangeHints,
        checks: StreamChecks,
        clock: Clock,
        observer: Observer,
        limits: StreamLimits,
    ) -> None:
        self._store = store
        self._changes = changes
        self._hints = hints
        self._checks = checks
        self._clock = clock
        self._observer = observer
        self.limits = limits
        self._streams: dict[ChangeStream, None] = {}
        self._watched: dict[UserId, SharedEvents] = {}
        self._reads = EventReads(store, changes, clock, observer, self._lose)
        self._tasks: TaskGroup | None = None
        self._is_closed = False

    @contextmanager
    def open(self, client: StreamClient, users: Sequence[UserId]) -> Iterator[ChangeStream]:
        """Register a stream, before its heads are read, so that no commit is missed. TooManyStreams at the limits."""
        if len(self._streams) >= self.limits.max_streams:
            raise TooManyStreams(self.limits.max_streams, of_credential=False)
        if sum(stream.client.credential == client.credential for stream in self._streams) >= MAX_STREAMS_PER_CREDENTIAL:
            raise TooManyStreams(MAX_STREAMS_PER_CREDENTIAL, of_credential=True)
        stream = ChangeStream(client, users, self, self._clock.now())
        self._streams[stream] = None
        for user in users:
            self._watched.setdefault(user, SharedEvents(user)).streams[stream] = None
        try:
            with self._observer.stream():
                yield stream
        finally:
            del self._streams[stream]
            for user in users:
                self._unwatch(user, stream)

    async def begin(self, stream: ChangeStream, after: Mapping[UserId, int | None], *, required: bool = False) -> None:
        """Read the heads and set the start of each user: after the given number, or a snapshot of now for None.

        A number beyond the last change also begins with a snapshot. If ``required``, the heads are read consistently,
        and NotFound is raised for an unknown user. Otherwise the stream begins with ``Unknown`` for such a user, and
        the heads may be a second old until the next comparison of ``_reconcile``.
        """
        await self._hints.request()  # before the heads are read: these have the commits without a hint
        readings = self._store.readings
        heads = await (readings.heads(stream.users, consistent=True) if required else readings.heads_after(after))
        items: list[Snapshot | Unknown] = []
        cursors: dict[UserId, int] = {}
        for user, number in after.items():
            head = heads.get(user)
            if head is None or head.erased:
                if required:
                    raise NotFound
                items.append(Unknown(user))
                self._unwatch(user, stream)
                continue
            if number is None or number > head.last_change:
                items.append(await self._reads.snapshot(head, None if number is None else (1, head.last_change)))
            cursors[user] = head.last_change if number is None else min(number, head.last_change)
            self._announce(self.events_of(user), head.last_change)
        stream.begin(items, cursors)
        if self._is_closed:
            stream.end(EndReason.RESTARTING)

    def close(self) -> None:
        """End all open streams. A stream that is opened later ends as soon as it begins."""
        self._is_closed = True
        for stream in self._streams:
            stream.end(EndReason.RESTARTING)

    def committed(self, changes: Sequence[Change]) -> None:
        """Give changes of this process to its streams, and announce them to the other replicas."""
        for user, changes_of_user in groupby(changes, key=attrgetter("user")):
            committed = list(changes_of_user)
            last_change = committed[-1].number
            if self._advance(user, last_change, "commit"):
                self._keep(self._watched[user], committed)
            self._hints.send(Hint(user, last_change))

    async def __call__(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            self._reads.start(tasks)
            try:
                for events in self._watched.values():  # wake-ups lost before this start or in a crash
                    tasks.start_soon(self._wake, events.user, list(events.streams))
                tasks.start_soon(self._receive_hints)
                tasks.start_soon(self._checks.run, self._streams)
                task_status.started()
                await self._reconcile()
            finally:
                self._tasks = None
                self._reads.stop()

    def events_of(self, user: UserId) -> SharedEvents:
        return self._watched[user]

    def request(self, user: UserId, after: int, stream: ChangeStream) -> None:
        self._reads.request(self._watched[user], after, stream)

    def sent(self, event: EventOf, stream: ChangeStream) -> None:
        recorded_at = event.event.recorded_at
        self._observer.stream_event(recorded_at, live=recorded_at >= stream.opened_at)

    def _unwatch(self, user: UserId, stream: EventReader) -> None:
        events = self._watched.get(user)
        if events is not None:
            events.streams.pop(stream, None)
            events.leave(stream)
            if not events.streams:
                del self._watched[user]

    def _advance(self, user: UserId, last_change: int, cause: str) -> bool:
        events = self._watched.get(user)
        if events is None or not self._announce(events, last_change):
            return False
        self._observer.stream_wakeup(cause)
        return True

    def _keep(self, events: SharedEvents, changes: Sequence[Change]) -> None:
        """Keep the changes of a commit in memory for the streams of the user. After an erasure, stop following."""
        if isinstance(changes[-1].data, UserErased):
            self._lose(events)
            return
        try:
            events.add([EventOf(events.user, self._changes.encode(change)) for change in changes])
        except Exception:  # the caller must not fail, because the changes are committed; the streams read the store
            log.exception("a change cannot be encoded", action="stream_broken")

    def _announce(self, events: SharedEvents, last_change: int) -> bool:
        """Wake the streams of a user if a number is higher than the known last change; return True if it was."""
        if not events.advance(last_change):
            return False
        streams = list(events.streams)
        for stream in streams[:WOKEN_AT_ONCE]:
            stream.mark_due(events.user)
        if self._tasks is not None and len(streams) > WOKEN_AT_ONCE:
            self._tasks.start_soon(self._wake, events.user, streams[WOKEN_AT_ONCE:])
        return True

    async def _wake(self, user: UserId, streams: Sequence[EventReader]) -> None:
        """Announce the last change of a user to streams, a few at a time."""
        for number, stream in enumerate(streams):
            if number % WOKEN_AT_ONCE == 0:
                await checkpoint()
            stream.mark_due(user)

    def _lose(self, events: SharedEvents) -> None:
        for stream in list(events.streams):
            if stream.lose(events.user):
                self._unwatch(events.user, stream)

    async def _receive_hints(self) -> None:
        while True:
            user, last_change = await self._hints.receive()
            self._advance(user, last_change, "hint")
            await checkpoint()

    async def _reconcile(self) -> None:
        """Compare the known numbers with the heads: every 60 s, or every 5 s without hints of other replicas."""
        while True:
            for _ in range(round(RECONCILE_SECONDS / UNHINTED_SECONDS)):
                await anyio.sleep(UNHINTED_SECONDS)
                if not self._hints.connected:
                    break
            if watched := list(self._watched):
                await self._hints.request()
            for first in range(0, len(watched), RECONCILE_BATCH):
                with suppress(StoreError):  # the next pass reads them again
                    self._compare(await self._store.readings.heads(watched[first : first + RECONCILE_BATCH]))

    def _compare(self, heads: Mapping[UserId, Head]) -> None:
        for user, head in heads.items():
            events = self._watched.get(user)
            if events is None:
                continue
            if head.erased:
                self._lose(events)
            else:
                self._advance(user, head.last_change, "reconcile")
