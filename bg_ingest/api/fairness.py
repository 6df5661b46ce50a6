"""Fair shares of the event loop and of open answers, so that no caller delays the short requests of others.

The costs of requests and of pieces of answers differ by a factor of up to a thousand. A limit on the number of requests
alone therefore does not bound the time for which others wait.
"""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
import anyio.lowlevel
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from bg_ingest.api.auth import AuthGuard, caller_of
from bg_ingest.api.problems import build_problem
from bg_ingest.services.pauses import pacing, pause

MAX_LONG_ANSWERS = 8
"""Streamed answers of one credential that are open at once. A reader that stalls holds about a MB in the server."""

MAX_WAIT_SECONDS = 2.0
"""Time that a further answer waits for the end of an open one. An answer with weeks of readings takes milliseconds."""

MIN_BYTES_PER_SECOND = 32_768
GRACE_SECONDS = 20.0
"""Lowest rate of a reader over a whole answer, and the seconds by which the reader may be behind this rate."""

MAX_DEFERRAL_SECONDS = 0.01
"""Longest wait of a piece of other work for the short requests in progress."""

CROWD = 32
"""Smallest number of waiting requests of one kind that counts as a crowd."""

CROWD_INTERVAL_SECONDS = 0.005
"""Shortest time between the starts of two requests of one kind (unproven, long, or with a body) in a crowd."""

_PUBLIC = re.compile(r"/(\Z|page/|health|metrics|schema|api/oauth)|/api/bg/[^/]+/webhook")
"""Paths of routes without a caller: anonymous ones, the page and its files, callbacks and webhooks."""

_READS = {"GET", "HEAD"}
"""Methods of short requests. A request with a body lasts until its sender has sent it."""

_LONG = re.compile(r"/api/(bg/[^/]+(?!/latest|/changes)(/.*)?|users/[^/]+/export|audit|dataset)/?\Z")
"""Paths of answers whose cost grows with the requested span."""


class ShortRequests:
    """Short requests of proven callers in progress. Other work is deferred until they end."""

    def __init__(self) -> None:
        self._running = 0
        self._none_left: anyio.Event | None = None

    def begin(self) -> None:
        self._running += 1

    def end(self) -> None:
        self._running -= 1
        if not self._running and self._none_left:
            self._none_left.set()
            self._none_left = None

    async def wait_for_end(self) -> None:
        """Return when no short request is in progress, at the latest after `MAX_DEFERRAL_SECONDS`."""
        if self._running:
            self._none_left = self._none_left or anyio.Event()
            with anyio.move_on_after(MAX_DEFERRAL_SECONDS):
                await self._none_left.wait()


class Pacer:
    """Admits waiters in the order of arrival: at most one in each pass of the event loop, after the short requests.

    A pass therefore holds at most one piece of work of each pacer, for any number of waiters.
    """

    def __init__(self, short_requests: ShortRequests, interval: float = 0) -> None:
        """``interval`` is the shortest time in seconds between two admissions in a crowd."""
        self._short_requests = short_requests
        self._interval = interval
        self._due = 0.0
        self._lock = anyio.Lock(fast_acquire=True)
        self._count = 0
        """Waiters, including the one to be admitted next."""

    async def wait(self) -> None:
        self._count += 1
        try:
            async with self._lock:
                await anyio.lowlevel.checkpoint()
                if self._due:
                    await anyio.sleep_until(self._due)
                is_crowded = self._interval > 0 and self._count > CROWD
                self._due = anyio.current_time() + self._interval if is_crowded else 0
                await self._short_requests.wait_for_end()
        finally:
            self._count -= 1


class Admission:
    """Order of requests: the short ones of proven callers do not queue behind anonymous, unproven and long ones."""

    def __init__(self, auth_guard: AuthGuard) -> None:
        self._auth_guard = auth_guard
        self._short_requests = ShortRequests()
        self._unproven, self._long, self._with_body = (
            Pacer(self._short_requests, CROWD_INTERVAL_SECONDS) for _ in range(3)
        )
        self._pieces = Pacer(self._short_requests)

    async def run(self, app: ASGIApp, scope: HTTPScope, receive: Receive, send: Send) -> None:
        """Answer a short request at once, any other when it is admitted. A long answer pauses between its pieces."""
        is_proven = self._auth_guard.recognizes(scope) and not _PUBLIC.match(scope["path"])
        is_long = _LONG.match(scope["path"])
        if is_proven and scope["method"] in _READS and not is_long:
            await self._run_short(app, scope, receive, send)
            return
        pacer = self._unproven if not is_proven else self._long if is_long else self._with_body
        await pacer.wait()
        pacing.set(self._pieces.wait)
        await app(scope, receive, send)

    async def _run_short(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request. It counts as short until its answer starts, or until its first pause if that is earlier."""
        is_short = True

        def end() -> None:
            nonlocal is_short
            if is_short:
                is_short = False
                self._short_requests.end()

        async def send_and_end(message: Message) -> None:
            await send(message)
            end()

        async def pause_and_end() -> None:
            end()
            await self._pieces.wait()

        self._short_requests.begin()
        pacing.set(pause_and_end)
        try:
            await app(scope, receive, send_and_end)
        finally:
            end()


class LongAnswers:
    """Bounds the number of long answers per credential: those whose cost grows with the requested span."""

    def __init__(self) -> None:
        self._slots: dict[str, anyio.Semaphore] = {}

    @asynccontextmanager
    async def open(self, scope: Scope) -> AsyncIterator[None]:
        """Count an answer of the caller as open; 429 if too many stay open."""
        caller = caller_of(scope)
        name = caller.name if caller else ""
        slots = self._slots.setdefault(name, anyio.Semaphore(MAX_LONG_ANSWERS, fast_acquire=True))
        await _acquire_in_time(slots)
        try:
            await pause()
            yield
        finally:
            slots.release()
            if slots.value == MAX_LONG_ANSWERS:
                self._slots.pop(name, None)


async def _acquire_in_time(slots: anyio.Semaphore) -> None:
    """Take a slot; 429 if none is released in time."""
    with suppress(anyio.WouldBlock):
        slots.acquire_nowait()
        return
    with anyio.move_on_after(MAX_WAIT_SECONDS):
        await slots.acquire()
        return
    await pause()
    detail = f"At most {MAX_LONG_ANSWERS} long answers of a credential may be open: read one to its end first."
    raise build_problem(429, "too-many-requests", detail, {"Retry-After": "5"})


class ChunkSender:
    """Sends the chunks of one answer, whose client must read `MIN_BYTES_PER_SECOND` over the whole answer."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._sent = 0
        self._blocked_seconds = 0.0

    async def send_chunk(self, chunk: bytes) -> None:
        """Send a chunk; TimeoutError if the reader is too slow. Time spent on making chunks does not count."""
        message: Message = {"type": "http.response.body", "body": chunk, "more_body": True}
        began = anyio.current_time()
        with anyio.fail_after(GRACE_SECONDS + self._sent / MIN_BYTES_PER_SECOND - self._blocked_seconds):
            await self._send(message)
        self._blocked_seconds += anyio.current_time() - began
        self._sent += len(chunk)
