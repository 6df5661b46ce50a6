"""Reads of events from the store, for the streams whose next event is not in memory."""

from collections.abc import Callable
from contextlib import nullcontext

import anyio
import structlog
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from bg_ingest.domain.commits import Head
from bg_ingest.errors import StoreError, StoreUnavailable
from bg_ingest.ports import Clock, Observer
from bg_ingest.services.queries.changes import FIRST_READ_OF_BATCH, ChangeQueries
from bg_ingest.services.queries.many_users import EventOf, Snapshot
from bg_ingest.services.queries.readings import latest_until
from bg_ingest.services.queries.shared_events import Delivery, EventReader, SharedEvents
from bg_ingest.services.retries import retrying
from bg_ingest.store import Store

WOKEN_AT_ONCE = 4
"""Streams woken in one pass of the event loop. To send an event of 100 KB to 200 streams takes about 25 ms."""

MAX_READ_TRIES = 100
"""Tries of one read, in about 4 minutes. If all fail, the streams that wait for the read end."""

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class EventReads:
    """Reads the events after a number once for all streams that wait for them."""

    def __init__(
        self,
        store: Store,
        changes: ChangeQueries,
        clock: Clock,
        observer: Observer,
        lose: Callable[[SharedEvents], None],
    ) -> None:
        self._tasks: TaskGroup | None = None
        self._readings = store.readings
        self._changes = changes
        self._clock = clock
        self._observer = observer
        self._lose = lose
        """Called for an erased user."""
        self._waiting: dict[tuple[SharedEvents, int], list[EventReader]] = {}
        """Streams that wait for a read, by the events of the user and the number after which the read begins."""
        self._catch_up = anyio.Lock()

    def request(self, events: SharedEvents, after: int, stream: EventReader) -> None:
        """Read the events after a number, and deliver them to the stream."""
        if (events, after) in self._waiting:
            self._waiting[events, after].append(stream)
            return
        self._waiting[events, after] = [stream]
        if after < events.read_until:
            self._observer.stream_reread()
        if self._tasks is not None:
            self._tasks.start_soon(self._read, events, after)

    def start(self, tasks: TaskGroup) -> None:
        """Run reads as tasks of a group from now on, including those requested before this start or before a crash."""
        self._tasks = tasks
        for events, after in self._waiting:
            tasks.start_soon(self._read, events, after)

    def stop(self) -> None:
        """Keep further requests until the next start."""
        self._tasks = None

    async def snapshot(self, head: Head, missed: tuple[int, int] | None) -> Snapshot:
        latest = await latest_until(self._readings, head, self._clock.now())
        return Snapshot(head.user, head.last_change, latest, missed)

    async def _read(self, events: SharedEvents, after: int) -> None:
        """Read events for the waiting streams. After an unexpected error these streams end and the actor continues."""
        items: Delivery = ()
        waiting = self._waiting[events, after]
        try:
            items = await self._read_items(events, after)
        except Exception:
            log.exception("a stream cannot be read", action="stream_broken")
            for stream in waiting:
                stream.fail()
        while waiting:
            for stream in waiting[:WOKEN_AT_ONCE]:
                stream.deliver(items)
            del waiting[:WOKEN_AT_ONCE]
            # without items, a pause would let the streams request the same read again, and this loop would never end
            if items:
                await checkpoint()
        del self._waiting[events, after]

    @retrying(
        StoreError,
        tries=MAX_READ_TRIES,
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
            head = await self._readings.head(user)
            if head is None or head.erased:
                self._lose(events)
                return ()
            if head.last_change <= after:  # the hint was wrong
                events.correct(head.last_change)
                return ()
            batch = await self._changes.batch(user, after)  # a commit may have followed the first read
            if not batch:
                return [await self.snapshot(head, (after + 1, head.last_change))]
        items = [EventOf(user, event) for event in batch]
        events.add(items)
        return items
