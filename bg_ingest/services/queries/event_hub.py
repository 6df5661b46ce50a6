"""Supply of events for all streams of this process.

The hub keeps the last change number of each watched user, and reads an event once for all streams of the user.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress

import anyio
import structlog
from anyio.abc import TaskGroup, TaskStatus
from anyio.lowlevel import checkpoint

from bg_ingest.domain.changes import Change
from bg_ingest.domain.commits import Head
from bg_ingest.domain.ids import UserId
from bg_ingest.errors import NotFound, StoreError, StoreUnavailable, TooManyStreams
from bg_ingest.ports import ChangeHints, Clock, Hint, Observer
from bg_ingest.services.polling.commit import retrying
from bg_ingest.services.queries.changes import FIRST_READ_OF_BATCH, ChangeQueries
from bg_ingest.services.queries.many_users import EventOf, Snapshot, Unknown
from bg_ingest.services.queries.readings import latest_until
from bg_ingest.services.queries.shared_events import Delivery, EventReader, SharedEvents
from bg_ingest.services.queries.stream import ChangeStream, EndReason, StreamClient, StreamLimits
from bg_ingest.services.queries.stream_checks import StreamChecks
from bg_ingest.store import Store

MAX_STREAMS_PER_CREDENTIAL = 100

RECONCILE_SECONDS, UNHINTED_SECONDS = 60.0, 5.0
"""Seconds between two reads of the heads of all watched users: with hints of other replicas, and without."""

RECONCILE_BATCH = 100
"""Heads of one read. To decode those of 1,000 users at once would block the event loop for 25 ms."""

MAX_READ_RETRIES = 100
"""Failures of one read, about 4 minutes, after which the streams that wait for it end."""

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class EventHub(Observer):
    """Opens streams and, as an actor, keeps them supplied.

    A commit or a hint only causes a read. The hub reconciles its numbers with the heads, so that a lost hint delays an
    event and loses none. Streams end as the drain begins.
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
        self._catch_up = anyio.Lock()
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

        A number beyond the last change also begins with a snapshot. NotFound for an unknown user that is ``required``.
        Heads of users that are not required may be a second old; the next comparison with the heads corrects this.
        """
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
                items.append(await self._snapshot(head, None if number is None else (1, head.last_change)))
            cursors[user] = head.last_change if number is None else min(number, head.last_change)
            self.events_of(user).advance(head.last_change)
        stream.begin(items, cursors)
        if self._is_closed:
            stream.end(EndReason.RESTARTING)

    def close(self) -> None:
        """End all open streams. A stream that is opened later ends as soon as it begins."""
        self._is_closed = True
        for stream in self._streams:
            stream.end(EndReason.RESTARTING)

    def committed(self, changes: Sequence[Change]) -> None:
        """Announce changes of this process to its streams, and to the other replicas."""
        for user, last_change in {change.user: change.number for change in changes}.items():
            self._advance(user, last_change, "commit")
            self._hints.send(Hint(user, last_change))

    async def __call__(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            try:
                for events in self._watched.values():  # reads requested before this start, or before a crash
                    for after in events.reads:
                        tasks.start_soon(self._read, events, after)
                tasks.start_soon(self._receive_hints)
                tasks.start_soon(self._checks.run, self._streams)
                task_status.started()
                await self._reconcile()
            finally:
                self._tasks = None

    def events_of(self, user: UserId) -> SharedEvents:
        return self._watched[user]

    def request(self, user: UserId, after: int, stream: ChangeStream) -> None:
        events = self._watched[user]
        if after in events.reads:
            events.reads[after].append(stream)
            return
        events.reads[after] = [stream]
        if after < events.read_until:
            self._observer.stream_reread()
        if self._tasks is not None:
            self._tasks.start_soon(self._read, events, after)

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

    def _advance(self, user: UserId, last_change: int, cause: str) -> None:
        events = self._watched.get(user)
        if events is not None and events.advance(last_change):
            self._observer.stream_wakeup(cause)

    def _lose(self, events: SharedEvents) -> None:
        for stream in list(events.streams):
            stream.lose(events.user)
            self._unwatch(events.user, stream)

    async def _snapshot(self, head: Head, missed: tuple[int, int] | None) -> Snapshot:
        latest = await latest_until(self._store.readings, head, self._clock.now())
        return Snapshot(head.user, head.last_change, latest, missed)

    async def _read(self, events: SharedEvents, after: int) -> None:
        """Read events for the waiting streams. After an unexpected error these streams end and the actor continues."""
        items: Delivery = ()
        try:
            items = await self._read_items(events, after)
        except Exception:
            log.exception("a stream cannot be read", action="stream_broken")
            for stream in events.reads[after]:
                stream.fail()
        for stream in events.reads.pop(after):
            stream.deliver(items)

    @retrying(
        StoreError,
        tries=MAX_READ_RETRIES,
        first_wait=0.1,
        max_wait=5.0,
        error=lambda: StoreUnavailable("the store failed for minutes"),
    )
    async def _read_items(self, events: SharedEvents, after: int) -> Delivery:
        user = events.user
        if not events.streams:
            return ()
        # one after the other, because concurrent reads decode many events in each pass of the event loop
        async with self._catch_up if events.last_change - after > FIRST_READ_OF_BATCH else nullcontext():
            batch = await self._changes.batch(user, after)
        if not batch:
            head = await self._store.readings.head(user)
            if head is None or head.erased:
                self._lose(events)
                return ()
            if head.last_change <= after:  # the hint was wrong
                events.correct(head.last_change)
                return ()
            batch = await self._changes.batch(user, after)  # a commit may have followed the first read
            if not batch:
                return [await self._snapshot(head, (after + 1, head.last_change))]
        items = [EventOf(user, event) for event in batch]
        events.add(items)
        return items

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
            watched = list(self._watched)
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
