"""Fair shares of the event loop and of open answers, so that no caller delays the short requests of others.

Requests and pieces of answers differ in cost a thousandfold. Counting requests alone does not bound the wait of others.
"""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from bg_ingest.api.auth import AuthGuard, caller_of
from bg_ingest.api.problems import build_problem

MAX_LONG_ANSWERS = 8
"""Streamed answers of one credential that are open at once. A reader that stalls holds about a MB in the server."""

MAX_WAIT_SECONDS = 2.0
"""Time that a further answer waits for the end of an open one. Answers over some weeks end within milliseconds."""

MIN_BYTES_PER_SECOND = 32_768
GRACE_SECONDS = 20.0
"""Least rate of a reader over a whole answer, and the seconds by which it may be behind this rate."""

BUSY_REQUESTS = 64
"""Short requests of proven callers in progress from which on these are paced, too."""

UNPROVEN_PASSES = 4
"""Passes of the event loop between the beginnings of two requests that are long or of unproven callers. A short request
of a proven caller takes about eight passes."""

PROVEN_LANES = 16
"""Paced short requests of proven callers that may begin in one pass."""

_PUBLIC = re.compile(r"/(health|metrics|schema|api/oauth)|/api/bg/[^/]+/webhook")
"""Paths of routes without a caller: anonymous ones, callbacks and webhooks."""

_LONG = re.compile(r"/api/(bg/[^/]+(?!/latest|/changes)(/.*)?|users/[^/]+/export|audit|dataset)/?\Z")
"""Paths of answers whose cost grows with the requested span."""


class Pacer:
    """Admits one waiter every few passes of the event loop, in the order of arrival.

    A pass then holds at most one piece of work of this kind, for any number of waiters. Other tasks run in each pass.
    """

    def __init__(self, passes: int = 1) -> None:
        self._passes = passes
        self._lock = anyio.Lock(fast_acquire=True)

    async def wait(self) -> None:
        async with self._lock:
            for _ in range(self._passes):
                await anyio.lowlevel.checkpoint()


class Admission:
    """Order of requests: the short ones of proven callers do not queue behind anonymous, unproven and long ones."""

    def __init__(self, auth_guard: AuthGuard) -> None:
        self._auth_guard = auth_guard
        self._unproven, self._long = Pacer(UNPROVEN_PASSES), Pacer(UNPROVEN_PASSES)
        self._short = [Pacer() for _ in range(PROVEN_LANES)]
        self._running = set[int]()
        """Identities of the scopes."""

    async def run(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request once its begin is due."""
        is_proven = self._auth_guard.recognizes(scope) and not _PUBLIC.match(scope["path"])
        if not is_proven or _LONG.match(scope["path"]):
            await (self._long if is_proven else self._unproven).wait()
            await app(scope, receive, send)
            return
        self._running.add(id(scope))
        try:
            if len(self._running) > BUSY_REQUESTS:
                await self._short[len(self._running) % PROVEN_LANES].wait()
            await app(scope, receive, send)
        finally:
            self.release(scope)

    def release(self, scope: Scope) -> None:
        """Stop to count a request as in progress, before its end if it is a stream."""
        self._running.discard(id(scope))


class LongAnswers:
    """Bounds the answers whose cost grows with the requested span: their number per credential, and their pieces."""

    def __init__(self) -> None:
        self.pacer = Pacer()
        """One piece of all long answers in each pass of the event loop."""
        self._slots: dict[str, anyio.Semaphore] = {}

    @asynccontextmanager
    async def open(self, scope: Scope) -> AsyncIterator[None]:
        """Count an answer of the caller as open; 429 if too many stay open."""
        caller = caller_of(scope)
        name = caller.name if caller else ""
        slots = self._slots.setdefault(name, anyio.Semaphore(MAX_LONG_ANSWERS, fast_acquire=True))
        opened = False
        with anyio.move_on_after(MAX_WAIT_SECONDS):
            await slots.acquire()
            opened = True
        if not opened:
            detail = f"At most {MAX_LONG_ANSWERS} long answers of a credential may be open: read one to its end first."
            raise build_problem(429, "too-many-requests", detail, {"Retry-After": "5"})
        try:
            yield
        finally:
            slots.release()
            if slots.value == MAX_LONG_ANSWERS:
                self._slots.pop(name, None)


class Reader:
    """Receiver of one answer. It must read at `MIN_BYTES_PER_SECOND` over the whole answer."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._sent = 0
        self._blocked_seconds = 0.0

    async def send_chunk(self, chunk: bytes, *, more_body: bool = True) -> None:
        """Send a chunk; TimeoutError if the reader is too slow. Time spent on making chunks does not count."""
        message: Message = {"type": "http.response.body", "body": chunk, "more_body": more_body}
        began = anyio.current_time()
        with anyio.fail_after(GRACE_SECONDS + self._sent / MIN_BYTES_PER_SECOND - self._blocked_seconds):
            await self._send(message)
        self._blocked_seconds += anyio.current_time() - began
        self._sent += len(chunk)
