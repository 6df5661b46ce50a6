"""Queries for changes: the events of a user after a number, contiguous and as published."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime

import msgspec
from anyio.lowlevel import checkpoint

from bg_ingest.domain.changes import Change, UserErased
from bg_ingest.domain.cloud_events import encode_cloud_event
from bg_ingest.domain.commits import Head
from bg_ingest.domain.ids import UserId
from bg_ingest.errors import CursorExpired, NotFound
from bg_ingest.ports import Clock
from bg_ingest.store import Store

MAX_PAGE_BYTES = 1_048_576
"""Largest size of a page with several events. The page ends before the event that would exceed this size."""


class PublishedEvent(msgspec.Struct, frozen=True):
    """Change as published."""

    number: int
    body: bytes
    """CloudEvents JSON, equal in every byte to the message of the broker."""
    type: str
    recorded_at: datetime


MAX_BATCH_EVENTS, MAX_BATCH_BYTES = 64, 131_072
"""Bounds of a batch of events for streams. The event that reaches a bound is the last of its batch. A backfill commits
events of about 100 KB, so that a batch has two of these."""

FIRST_READ_OF_BATCH = 4
"""Events in the first read of a batch. An event of a backfill takes about 1 KB as stored, but 100 KB as published. Four
such events exceed ``MAX_BATCH_BYTES``, so that a larger first read would be billed for nothing."""


class EventPage(msgspec.Struct, frozen=True):
    """Contiguous events."""

    events: list[PublishedEvent]
    after: int
    """Number of the last event; the cursor of the request if there is none."""
    last: int
    """Number of the user's last change."""

    @property
    def more(self) -> bool:
        return self.after < self.last


class ChangeQueries:
    """Reads stored changes, consistently; makes no write."""

    def __init__(self, store: Store, clock: Clock, source: str) -> None:
        self._store = store
        self._clock = clock
        self._cloud_source = source

    async def page(self, user: UserId, after: int, limit: int, head: Head) -> EventPage:
        """Return at most ``limit`` events after a number; CursorExpired if the next one is not kept."""
        events: list[PublishedEvent] = []
        size = 0
        async with aclosing(self.events(user, after, min(head.last_change, after + limit), head)) as next_events:
            async for event in next_events:
                size += len(event.body)
                if events and size > MAX_PAGE_BYTES:
                    break
                events.append(event)
        return EventPage(events, events[-1].number if events else after, head.last_change)

    async def events(self, user: UserId, after: int, until: int, head: Head) -> AsyncGenerator[PublishedEvent]:
        """Yield the events with after < number <= until, ascending by one. Other tasks run after each.

        CursorExpired instead of the first event that is not kept, and instead of an erasure of the user.
        """
        number = after
        async with aclosing(self._store.changes.iter_kept(user, after + 1, until, self._clock.now())) as changes:
            async for change in changes:
                number += 1
                if change.number != number or isinstance(change.data, UserErased):
                    break
                yield self.encode(change)
                await checkpoint()
            else:
                if number == until:
                    return
        raise CursorExpired(await self._first_kept(user, head), head.last_change)

    async def batch(self, user: UserId, after: int) -> list[PublishedEvent]:
        """Return the next events of a stream, ascending by one; empty if the next one is not stored.

        A batch ends before the user's erasure.
        """
        events: list[PublishedEvent] = []
        size, now = 0, self._clock.now()
        last = after + MAX_BATCH_EVENTS
        following = self._store.changes.iter_kept(user, after + 1, last, now, first_read=FIRST_READ_OF_BATCH)
        async with aclosing(following) as changes:
            async for change in changes:
                if change.number != after + len(events) + 1 or isinstance(change.data, UserErased):
                    break
                if events:
                    await checkpoint()
                events.append(self.encode(change))
                size += len(events[-1].body)
                if size >= MAX_BATCH_BYTES:
                    break
        return events

    def encode(self, change: Change) -> PublishedEvent:
        body = encode_cloud_event(change, self._cloud_source)
        return PublishedEvent(change.number, body, change.type, change.recorded_at)

    async def head(self, user: UserId) -> Head:
        """Return the head, read consistently; NotFound if the user never connected or was erased."""
        head = await self._store.readings.head(user)
        if head is None or head.erased:
            raise NotFound
        return head

    async def _first_kept(self, user: UserId, head: Head) -> int:
        """Return the smallest number from which all changes are kept."""
        first, expected = head.last_change + 1, 0
        async with aclosing(self._store.changes.iter_kept(user, 1, head.last_change, self._clock.now())) as changes:
            async for change in changes:
                if change.number != expected:
                    first = change.number
                expected = change.number + 1
                if isinstance(change.data, UserErased):
                    expected = 0  # a cursor from before an erasure is expired, although the numbers continue after it
                await checkpoint()
        return first if expected else head.last_change + 1
