"""Live changes of one or more users for one client. Each user's change numbers occur exactly once and ascend by one."""

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable
from datetime import datetime
from enum import Enum, StrEnum
from typing import Protocol

import anyio
import msgspec

from bg_ingest.domain.ids import UserId
from bg_ingest.services.queries.many_users import EventOf, Snapshot, Unknown
from bg_ingest.services.queries.shared_events import Delivery, SharedEvents

HEARTBEAT_STEP_SECONDS = 0.25
"""The heartbeats of all streams are due at multiples of this step. With separate due times, the heartbeats of 1,000
streams would wake the process 333 times a second, and they took twice as much CPU."""


class EndReason(StrEnum):
    """Reason for the end of a stream."""

    RESTARTING = "restarting"
    CREDENTIAL_ENDED = "credential_ended"
    ERASED = "erased"
    BROKEN = "broken"


class StreamEnd(msgspec.Struct, frozen=True):
    """Last item of a stream."""

    reason: EndReason


class Heartbeat(Enum):
    """Item that is sent if there was no other one for a while."""

    HEARTBEAT = "heartbeat"


StreamItem = EventOf | Snapshot | Unknown | StreamEnd | Heartbeat


class StreamClient(msgspec.Struct, frozen=True):
    """Credential that opened a stream, and the route under which its reads are audited."""

    credential: str
    """``Caller.name``."""
    token: str | None
    """Key or token that is checked again while the stream is open; None if the API is open."""
    route: str


class StreamLimits(msgspec.Struct, frozen=True):
    """Largest number of open streams of this process, and seconds without an event before a heartbeat."""

    max_streams: int = 1_000
    heartbeat_seconds: float = 3


DEFAULT_STREAM_LIMITS = StreamLimits()


class StreamSupply(Protocol):
    """Supply of events for all streams."""

    @property
    def limits(self) -> StreamLimits: ...

    def events_of(self, user: UserId) -> SharedEvents:
        """Return the shared events of a user of an open stream."""

    def request(self, user: UserId, after: int, stream: "ChangeStream") -> None:
        """Read the events after a number from the store, and deliver them to the stream."""

    def sent(self, event: EventOf, stream: "ChangeStream") -> None:
        """Count an event that was sent."""


class ChangeStream:
    """One client's stream. It has one cursor per user, at most one batch of events, and no task of its own."""

    def __init__(
        self, client: StreamClient, users: Collection[UserId], supply: StreamSupply, opened_at: datetime
    ) -> None:
        self.client = client
        self.opened_at = opened_at
        self.cursors: dict[UserId, int] = {}
        """Number of the last event sent, by user. A user without a cursor is not yet, or no longer, followed."""
        self.users = tuple(users)
        self._supply = supply
        self._batch: deque[EventOf | Snapshot | Unknown] = deque()
        self._due: dict[UserId, None] = {}
        self._is_reading = self._is_held = self._is_woken = False
        self._end: EndReason | None = None
        self._waiting: anyio.CancelScope | None = None

    def begin(self, items: Iterable[Snapshot | Unknown], cursors: dict[UserId, int]) -> None:
        """Set the first items and the cursors of the users that are known."""
        self._batch.extend(items)
        self.cursors = cursors
        self._due = dict.fromkeys(cursors)
        self._end_without_users()

    async def items(self, wait_for_disconnect: Callable[[], Awaitable[None]]) -> AsyncGenerator[StreamItem]:
        """Yield items until the stream ends or its client disconnects, and a heartbeat after some time without an item.

        An item counts as sent once the next one is asked for.
        """
        heartbeat_seconds = self._supply.limits.heartbeat_seconds
        heartbeat_at = _heartbeat_at(heartbeat_seconds)
        while self._end is None or self._batch:
            item: StreamItem | None = self._next_item()
            if item is None:
                if await self._wait(heartbeat_at, wait_for_disconnect):
                    return
                if self._is_woken:
                    continue
                item = Heartbeat.HEARTBEAT
            yield item
            heartbeat_at = _heartbeat_at(heartbeat_seconds)
            if isinstance(item, EventOf):
                self._supply.sent(item, self)
        yield StreamEnd(self._end)

    def mark_due(self, user: UserId) -> None:
        """Announce a new last change of a user."""
        if user in self.cursors:
            self._due[user] = None
            self._wake()

    def deliver(self, items: Delivery) -> None:
        """Receive the items of the read that this stream requested."""
        self._is_reading = False
        self._batch.extend(item for item in items if item.user in self.cursors)
        self._wake()

    def lose(self, user: UserId) -> bool:
        """Stop following an erased user; return False if the user is not followed yet."""
        if self.cursors.pop(user, None) is None:
            return False
        self._due.pop(user, None)
        self._batch = deque(item for item in self._batch if item.user != user)
        self._batch.append(Unknown(user))
        self._end_without_users()
        self._wake()
        return True

    def fail(self) -> None:
        """End the stream, because its events cannot be read."""
        self.end(EndReason.BROKEN)

    def hold(self, *, held: bool) -> None:
        """Stop sending events while the credential cannot be checked (``held``), or continue."""
        if held != self._is_held:
            self._is_held = held
            self._wake()

    def end(self, reason: EndReason) -> None:
        """End the stream after the item that is being sent."""
        self._batch.clear()
        self._end = self._end or reason
        self._wake()

    def _end_without_users(self) -> None:
        if not self.cursors:
            self._end = self._end or EndReason.ERASED

    def _next_item(self) -> EventOf | Snapshot | Unknown | None:
        self._is_woken = False
        while self._end is not None or not self._is_held:
            if self._batch:
                item = self._batch.popleft()
                if isinstance(item, EventOf):
                    self.cursors[item.user] = item.event.number
                elif isinstance(item, Snapshot):
                    self.cursors[item.user] = item.change
                return item
            if self._is_reading or not self._fill():
                return None
        return None

    def _fill(self) -> bool:
        """Fill the batch with events of the next user that has any; False if no user has any, or a read is needed."""
        while self._due:
            user = next(iter(self._due))
            del self._due[user]
            events, cursor = self._supply.events_of(user), self.cursors[user]
            if cursor >= events.last_change:
                events.leave(self)
                continue
            self._due[user] = None  # behind the others
            self._batch.extend(events.after(cursor))
            if self._batch:
                return True
            self._is_reading = True
            self._supply.request(user, cursor, self)
            return False
        return False

    def _wake(self) -> None:
        self._is_woken = True
        if self._waiting is not None:
            self._waiting.cancel()

    async def _wait(self, until: float, wait_for_disconnect: Callable[[], Awaitable[None]]) -> bool:
        """Wait for a wake-up, at most until an instant. Return True if the client has disconnected."""
        if not self._is_woken:
            try:
                with anyio.CancelScope(deadline=until) as self._waiting:
                    await wait_for_disconnect()
                    return True
            finally:
                self._waiting = None
        return False


def _heartbeat_at(seconds: float) -> float:
    """Return the last multiple of ``HEARTBEAT_STEP_SECONDS`` that is at most so many seconds away."""
    return (anyio.current_time() + seconds) // HEARTBEAT_STEP_SECONDS * HEARTBEAT_STEP_SECONDS
