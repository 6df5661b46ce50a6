"""Bounds on the memory of webhooks in progress. A new webhook may end the slowest bodies of unverified senders."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import anyio
from litestar.types import Receive
from litestar.types.asgi_types import HTTPReceiveMessage

from bg_ingest.api.problems import ProblemError, build_problem

MAX_WEBHOOK_BYTES = 1_048_576
"""About ten days of a 5-minute sensor."""

MAX_VERIFIED = 64
"""Webhooks of verified senders in progress at once."""

MAX_TOTAL_BYTES = 64 * MAX_WEBHOOK_BYTES
MAX_UNVERIFIED_BYTES = 48 * MAX_WEBHOOK_BYTES
"""Bounds on the announced bytes of all webhooks in progress, and of those that are not verified yet."""

MIN_SLOT_BYTES = 262_144
"""Smaller webhooks count as this size, which bounds the number of slots."""

MAX_WRITE_BYTES = 4 * MAX_WEBHOOK_BYTES
"""Bound on the bytes of the webhooks that are parsed and stored at once. Parsed records take several times as much
memory."""

MIN_WRITE_BYTES = 131_072
"""Smaller webhooks count as this size against MAX_WRITE_BYTES, so at most 32 webhooks are stored at once. A webhook
mostly waits for the store. Fewer webhooks at once would therefore limit the throughput: 4 at once stored 44 webhooks
per second with a store that takes 8 ms per call."""

HEAD_START_BYTES = 1_024
"""Bytes added to those received, so that a body that has just begun does not count as slow."""


class WebhookSlot:
    """One webhook in progress: its announced size, and its received bytes while its sender is unverified."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.verified = False
        self.scope = anyio.CancelScope()
        self._began = anyio.current_time()
        self._received = 0

    def rate(self, now: float) -> float:
        """Return the bytes per second since the beginning; infinite at the beginning itself."""
        seconds = now - self._began
        return (self._received + HEAD_START_BYTES) / seconds if seconds > 0 else float("inf")

    def count_received(self, receive: Receive) -> Receive:
        """Return a function that receives the body and counts its bytes."""

        async def receive_and_count() -> HTTPReceiveMessage:
            event = await receive()
            if event["type"] == "http.request":
                self._received += len(event["body"])
            return event  # type: ignore[return-value]  # no websocket

        return receive_and_count


class WebhookSlots:
    """The webhooks in progress, bounded by their announced bytes."""

    def __init__(self) -> None:
        self._slots: set[WebhookSlot] = set()

    @contextmanager
    def reserve(self, announced: int | None) -> Iterator[WebhookSlot]:
        """Reserve the announced bytes, or ``MAX_WEBHOOK_BYTES`` if none are announced; 503 if there is no room.

        If ``MAX_UNVERIFIED_BYTES`` would be exceeded, the slowest bodies of unverified senders are ended with 503. If
        ``MAX_TOTAL_BYTES`` would still be exceeded, this webhook is refused with 503.
        """
        size = MAX_WEBHOOK_BYTES if announced is None else announced
        slot = WebhookSlot(max(MIN_SLOT_BYTES, min(size, MAX_WEBHOOK_BYTES)))
        self._make_room(slot.size)
        self._slots.add(slot)
        try:
            with slot.scope:
                yield slot
        finally:
            self._slots.discard(slot)
        if slot.scope.cancelled_caught:
            raise _no_room()

    def mark_verified(self, slot: WebhookSlot) -> None:
        """Mark the sender as verified: its webhook is not ended any more. 503 if there are `MAX_VERIFIED` already."""
        self.check_room_for_verified()
        slot.verified = True

    def check_room_for_verified(self) -> None:
        """Refuse with 503 if too many webhooks of verified senders are in progress."""
        if sum(slot.verified for slot in self._slots) >= MAX_VERIFIED:
            raise _no_room()

    def _make_room(self, size: int) -> None:
        unverified = {slot for slot in self._slots if not slot.verified}
        held, now = sum(slot.size for slot in unverified), anyio.current_time()
        while unverified and held + size > MAX_UNVERIFIED_BYTES:
            slowest = min(unverified, key=lambda slot: slot.rate(now))
            slowest.scope.cancel()
            unverified.discard(slowest)
            self._slots.discard(slowest)
            held -= slowest.size
        if sum(slot.size for slot in self._slots) + size > MAX_TOTAL_BYTES:
            raise _no_room()


class WriteSlots:
    """The webhooks that are parsed and stored, bounded by their bytes. Others wait in order of arrival."""

    def __init__(self) -> None:
        self._free = MAX_WRITE_BYTES
        self._first_in_line = anyio.Lock(fast_acquire=True)
        self._released = anyio.Event()

    @asynccontextmanager
    async def wait(self, size: int) -> AsyncIterator[None]:
        """Wait until there is room for a webhook of this size, and reserve it until the block ends."""
        size = max(MIN_WRITE_BYTES, min(size, MAX_WEBHOOK_BYTES))
        async with self._first_in_line:  # smaller webhooks do not overtake a large one
            while self._free < size:
                self._released = anyio.Event()
                await self._released.wait()
            self._free -= size
        try:
            yield
        finally:
            self._free += size
            self._released.set()


def _no_room() -> ProblemError:
    detail = "Too many webhooks are in progress: send this one again in a second."
    return build_problem(503, "too-many-webhooks", detail, {"Retry-After": "1"})
