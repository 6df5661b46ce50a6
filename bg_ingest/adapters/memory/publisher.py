"""Publishes to subscribers in this process, with the promises of the real broker."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import msgspec
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from bg_ingest.domain.changes import Change
from bg_ingest.domain.cloud_events import CONTENT_TYPE, encode_cloud_event
from bg_ingest.errors import EventRefused

MAX_UNREAD_EVENTS = 1_000
"""Events a subscriber may leave unread before more are refused, as a full queue refuses them."""


class Event(msgspec.Struct, frozen=True):
    """What a subscriber receives: the same bytes and properties as from a real broker."""

    routing_key: str
    message_id: str
    content_type: str
    body: bytes


class MemoryPublisher:
    """Hands every event to each subscriber; with none, events are unroutable."""

    def __init__(self, source: str, *, capacity: int = MAX_UNREAD_EVENTS) -> None:
        self._source = source
        self._capacity = capacity
        self._subscribers: set[MemoryObjectSendStream[Event]] = set()

    async def publish(self, change: Change) -> bool:
        await anyio.lowlevel.checkpoint()
        if not self._subscribers:
            return False
        if any(each.statistics().current_buffer_used >= self._capacity for each in self._subscribers):
            raise EventRefused
        event = Event(change.type, change.id, CONTENT_TYPE, encode_cloud_event(change, self._source))
        for each in self._subscribers:
            each.send_nowait(event)
        return True

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[MemoryObjectReceiveStream[Event]]:
        """Receive every event told while the context is open."""
        send, receive = anyio.create_memory_object_stream[Event](self._capacity)
        self._subscribers.add(send)
        try:
            with send, receive:
                yield receive
        finally:
            self._subscribers.discard(send)
