"""Coalesced reads: concurrent consistent reads of single items share calls of the table."""

import anyio

from bg_ingest.errors import StoreUnavailable
from bg_ingest.ports.table import Key, StoredItem, Table

MAX_KEYS = 32
"""Largest number of keys of one call, by a measurement of 2026-11-30. With 100, a key would take 5 µs less, but a call
lasts as long as the read of its slowest key."""

MAX_CALLS = 2
"""Largest number of calls in progress. With a smaller number, each call would have more keys, but a stalled call would
delay more requests."""


class SharedCall:
    """Call that later requests join until it is sent."""

    def __init__(self) -> None:
        self.keys: dict[Key, None] = {}
        self.requests = 0
        self.ended = anyio.Event()
        self.items: dict[Key, StoredItem | None] = {}
        """Items of the keys that were read."""
        self.unavailable: StoreUnavailable | None = None


class CoalescedReads:
    """Reads single items. While ``MAX_CALLS`` calls are in progress, further requests gather for the next call.

    A request joins only a call that is not yet sent, and nothing is cached. An answer is therefore never older than its
    request. The first request of a call sends the call for all its requests.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._slots = anyio.Semaphore(MAX_CALLS)
        self._next: SharedCall | None = None

    async def get(self, key: Key) -> StoredItem | None:
        """Return an item, read consistently after the request."""
        call = self._next
        is_first = call is None
        if call is None:
            call = self._next = SharedCall()
        call.keys[key] = None
        call.requests += 1
        if len(call.keys) == MAX_KEYS:
            self._next = None
        if is_first:
            await self._send(call)
        else:
            await call.ended.wait()
        if key in call.items:
            return call.items[key]
        if call.unavailable is not None:
            raise StoreUnavailable(*call.unavailable.args) from call.unavailable
        # The store left the key unprocessed, or the call failed by another error or was cancelled before it was sent.
        async with self._slots:
            return await self._table.get(key)

    async def _send(self, call: SharedCall) -> None:
        try:
            # Acquiring suspends once even if a slot is free, so that requests of the same pass of the loop join.
            async with self._slots:
                self._close(call)
                # The cancellation of one request must not end the call of others.
                with anyio.CancelScope(shield=call.requests > 1):
                    await self._read(call)
        finally:
            self._close(call)
            call.ended.set()

    def _close(self, call: SharedCall) -> None:
        if self._next is call:
            self._next = None

    async def _read(self, call: SharedCall) -> None:
        try:
            if len(call.keys) == 1:
                (key,) = call.keys
                call.items[key] = await self._table.get(key)
            else:
                call.items = await self._table.batch_get_once(list(call.keys))
        except StoreUnavailable as error:
            call.unavailable = error
        except Exception:
            if call.requests == 1:
                raise
