"""Newest events of one user with open streams, which the streams share."""

from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Protocol

from bg_ingest.domain.ids import UserId
from bg_ingest.services.queries.many_users import EventOf, Snapshot

MAX_EVENTS, MAX_BYTES = 64, 262_144
"""Bounds of the events in memory. The newest one is kept even if it is larger."""

Delivery = Sequence[EventOf | Snapshot]
"""Items for a stream: events that ascend by one, or a snapshot if the next change has expired."""


class EventReader(Protocol):
    """Stream that reads the events of a user."""

    def mark_due(self, user: UserId) -> None:
        """Announce a new last change."""

    def deliver(self, items: Delivery) -> None:
        """Give the events that the stream waits for."""

    def fail(self) -> None:
        """End the stream, because its events cannot be read."""

    def lose(self, user: UserId) -> bool:
        """Stop following an erased user; False for a stream that has not begun, whose first read finds the erasure."""


class SharedEvents:
    """Newest events of one user in memory, dropped once all streams have them. Older events are read from the store."""

    def __init__(self, user: UserId) -> None:
        self.user = user
        self.last_change = 0
        """Highest number known. A hint may have raised it too far, and the next read then corrects it."""
        self.streams: dict[EventReader, None] = {}
        self.read_until = 0
        """Highest number of an event that was read for any stream, or committed by this process."""
        self._behind: set[EventReader] = set()
        self._events: deque[EventOf] = deque()
        self._size = 0

    def advance(self, last_change: int) -> bool:
        """Set the last change if it is higher than the known one; return True if it was set."""
        if last_change <= self.last_change:
            return False
        self.last_change = last_change
        self._behind.update(self.streams)
        return True

    def correct(self, last_change: int) -> None:
        """Set the last change to the number in the head, after a hint that was too high."""
        self.last_change = last_change

    def after(self, number: int) -> list[EventOf]:
        """Return the events in memory that follow a number; empty if the next one is not in memory."""
        if not self._events:
            return []
        start = number + 1 - self._events[0].event.number
        return list(islice(self._events, start, None)) if 0 <= start < len(self._events) else []

    def add(self, events: Sequence[EventOf]) -> None:
        """Keep events, ascending by one, if they are newer than those in memory. The oldest are dropped."""
        if not events or events[-1].event.number <= self.read_until:
            return
        if events[0].event.number > self.read_until + 1:
            self._clear()
        for event in events:
            if event.event.number > self.read_until:
                self._events.append(event)
                self._size += len(event.event.body)
        self.read_until = events[-1].event.number
        while len(self._events) > MAX_EVENTS or (self._size > MAX_BYTES and len(self._events) > 1):
            self._size -= len(self._events.popleft().event.body)

    def leave(self, stream: EventReader) -> None:
        """Note that a stream has all events, or has ended."""
        self._behind.discard(stream)
        if not self._behind:
            self._clear()

    def _clear(self) -> None:
        self._events.clear()
        self._size = 0
