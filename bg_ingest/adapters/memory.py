"""The embedded broker: events and hints stay in this process. Unread events are lost when the process ends."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import msgspec
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from bg_ingest.adapters.hint_buffer import HintBuffer
from bg_ingest.domain.changes import Change
from bg_ingest.domain.cloud_events import CONTENT_TYPE, encode_cloud_event
from bg_ingest.errors import EventRefused
from bg_ingest.ports import Hint

MAX_UNREAD_EVENTS = 1_000
"""Largest number of unread events per subscriber. Further events are refused, as by a full queue."""


class Event(msgspec.Struct, frozen=True):
    """An event as a subscriber receives it, with the same bytes and properties as from a real broker."""

    routing_key: str
    message_id: str
    content_type: str
    body: bytes


class MemoryPublisher:
    """Delivers every event to each subscriber. Without subscribers, events are unroutable."""

    def __init__(self, source: str, *, capacity: int = MAX_UNREAD_EVENTS) -> None:
        self._source = source
        self._capacity = capacity
        self._subscribers: set[MemoryObjectSendStream[Event]] = set()

    async def publish(self, change: Change) -> bool:
        await anyio.lowlevel.checkpoint()
        if not self._subscribers:
            return False
        if any(stream.statistics().current_buffer_used >= self._capacity for stream in self._subscribers):
            raise EventRefused
        event = Event(change.type, change.id, CONTENT_TYPE, encode_cloud_event(change, self._source))
        for stream in self._subscribers:
            stream.send_nowait(event)
        return True

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[MemoryObjectReceiveStream[Event]]:
        """Receive every event that is published while the context is open."""
        send, receive = anyio.create_memory_object_stream[Event](self._capacity)
        self._subscribers.add(send)
        try:
            with send, receive:
                yield receive
        finally:
            self._subscribers.discard(send)


class MemoryHints:
    """Hints between several instances of BG Ingest in one process. Instances built with the same list are replicas."""

    def __init__(self, replicas: "list[MemoryHints] | None" = None, *, is_only_replica: bool = False) -> None:
        self._is_only_replica = is_only_replica
        self.received = HintBuffer()
        self._replicas = [] if replicas is None else replicas
        self._replicas.append(self)

    @property
    def connected(self) -> bool:
        """True if the hints of all other replicas arrive: the list contains others, or no other replica exists."""
        return self._is_only_replica or len(self._replicas) > 1

    async def request(self) -> None:
        """Do nothing: each replica receives all hints."""

    def send(self, hint: Hint) -> None:
        for replica in self._replicas:
            if replica is not self:
                replica.received.put(hint)

    async def receive(self) -> Hint:
        return await self.received.get()
