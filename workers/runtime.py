"""Lifetime of the actors of one process: ordered start, drain, and a stop of the process after a crash."""

import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from typing import NoReturn, Protocol

import anyio
import structlog
from anyio.abc import TaskStatus

log: structlog.stdlib.BoundLogger = structlog.get_logger()

DRAIN_SIGNAL = signal.SIGURG
"""Signal from the server to its worker at SIGTERM, because the lifespan ends only after the last response.

No other component uses SIGURG. Its default action is to be ignored, so that a worker without a receiver for it (before
the start or after the end) is not killed.
"""

DRAIN_DEADLINE = 18.0
"""Longest drain in seconds. A stopped process has to exit within 20 s, of which 2 remain for cancellation and
closing."""


class Actor(Protocol):
    """A coroutine that reports its start and then runs until cancelled."""

    async def __call__(self, *, task_status: TaskStatus[None]) -> None: ...


class RuntimeState(StrEnum):
    """State of the runtime; it is ready only while ``running``."""

    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"
    CRASHED = "crashed"


def stop_process() -> None:
    """Ask the server to stop, because it would continue to serve requests without any actor."""
    os.kill(os.getpid(), signal.SIGTERM)


def exit_process(code: int = 0) -> NoReturn:
    """End the process immediately, without the end of the lifespan.

    It is called after a failed start, and after a drain or crash while a client does not read its response. Open
    resources have been drained or tolerate a kill.
    """
    try:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):  # reader gone, disk full, closed, or None
                stream.flush()
    finally:
        os._exit(code)


class Runtime:
    """Owns every actor of the process while ``running`` is entered (once).

    ``drain`` takes no more work, finishes work that cannot be interrupted, and releases the shards. After
    ``drain_deadline`` seconds the actors are cancelled. ``crash`` is the error that an actor raised after the start.
    """

    def __init__(
        self,
        actors: Sequence[Actor],
        *,
        drain: Callable[[], Awaitable[None]],
        drain_deadline: float = DRAIN_DEADLINE,
        on_crash: Callable[[], None] = stop_process,
        on_stalled: Callable[[int], object] = exit_process,
    ) -> None:
        self.state = RuntimeState.STARTING
        self.crash: Exception | None = None
        self._actors = actors
        self._drain = drain
        self._drain_deadline = drain_deadline
        self._on_crash = on_crash
        self._on_stalled = on_stalled
        self._scope: anyio.CancelScope  # of the actors; created on the event loop, unlike the runtime
        self._draining: anyio.CancelScope | None = None
        self._ended = anyio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start the actors; on exit drain them until the deadline, then cancel the rest.

        A failed start is raised here. A later crash stops the process instead, because the body is the lifespan of
        the web server, and ASGI servers ignore an error raised within it.
        """
        async with anyio.create_task_group() as group:
            await group.start(self._run_actors, name="actors")
            if threading.current_thread() is threading.main_thread():  # Python handles signals only there
                await group.start(self._drain_on_signal, name="drain signal")
            try:
                yield
            finally:
                await self.drain()
                group.cancel_scope.cancel()

    async def drain(self) -> None:
        """Drain the actors and return once all have ended; a second call waits for the first.

        The drain is shielded from cancellation until its end or deadline.
        """
        if self.state is RuntimeState.RUNNING:
            self.state = RuntimeState.DRAINING
            try:
                log.info("draining", action="runtime_draining")
                await self._drain_until_deadline()
            finally:
                self._scope.cancel()
        await self._ended.wait()

    async def _drain_until_deadline(self) -> None:
        with anyio.move_on_after(self._drain_deadline, shield=True) as draining:
            self._draining = draining
            try:
                await self._drain()
            except Exception:
                log.exception("the drain crashed; cancelling the actors", action="runtime_drain_crashed")
        if draining.cancelled_caught and self.crash is None:
            log.warning(
                "not drained in time; cancelling the actors",
                action="runtime_drain_overdue",
                seconds=self._drain_deadline,
            )

    async def _run_actors(self, *, task_status: TaskStatus[None]) -> None:
        try:
            with anyio.CancelScope() as self._scope:
                async with anyio.create_task_group() as group:
                    for actor in self._actors:
                        await group.start(actor)
                    self.state = RuntimeState.RUNNING
                    task_status.started()
        except Exception as error:
            if self.state is RuntimeState.STARTING:
                raise
            self.crash = error
            self.state = RuntimeState.CRASHED
            if self._draining:
                self._draining.cancel()
            try:
                log.critical("an actor crashed; stopping the process", action="runtime_crashed", exc_info=error)
            finally:
                self._on_crash()
        finally:
            self._ended.set()
        if self.crash is not None:
            await self._exit_at(anyio.current_time() + self._drain_deadline)

    async def _drain_on_signal(self, *, task_status: TaskStatus[None]) -> None:
        with anyio.open_signal_receiver(DRAIN_SIGNAL) as signals:
            task_status.started()
            async for _ in signals:
                deadline = anyio.current_time() + self._drain_deadline
                await self.drain()
                await self._exit_at(deadline)

    async def _exit_at(self, deadline: float) -> None:
        """End the process at the deadline; the end of the lifespan, after the last response, cancels this wait."""
        await anyio.sleep_until(deadline)
        try:
            log.warning("exiting during responses that are not read", action="runtime_stalled")
        finally:
            self._on_stalled(0 if self.crash is None else 1)
