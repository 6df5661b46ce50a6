"""The actors of one process: start them in order, drain them, and make a crash visible."""

import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import NoReturn, Protocol

import anyio
import structlog
from anyio.abc import TaskStatus

log: structlog.stdlib.BoundLogger = structlog.get_logger()

DRAIN_SIGNAL = signal.SIGURG
"""Sent by the server to its worker at SIGTERM: the lifespan's end comes only after the last response.

Of the signals nobody else uses, the one whose default is to be ignored: a worker that does not listen yet, or
no longer, is not killed by it.
"""

DRAIN_DEADLINE = 18.0
"""Seconds: of the 20 in which a stopped process has to be gone, two are for cancelling and closing."""


class Actor(Protocol):
    """Something that says when it has started and then runs until cancelled."""

    async def __call__(self, *, task_status: TaskStatus[None]) -> None: ...


class RuntimeState(StrEnum):
    """Where the runtime is; it is ready only while ``running``."""

    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"
    CRASHED = "crashed"


def stop_process() -> None:
    """Ask the server to stop: on its own it would go on answering without any actor."""
    os.kill(os.getpid(), signal.SIGTERM)


def exit_process(code: int = 0) -> NoReturn:
    """End the process here and now: under a response that nobody reads, or before there was a start.

    What is open has been drained or can bear a kill.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class Runtime:
    """Owns every actor of the process while ``running`` is entered (once).

    ``drain`` brings the actors to rest: stop taking work, finish what cannot be left, hand back. It has
    ``drain_deadline`` seconds; then the actors are cancelled, whatever they do. ``crash`` is what an actor
    raised after the start.
    """

    def __init__(
        self,
        actors: Sequence[Actor],
        *,
        drain: Callable[[], Awaitable[None]],
        drain_deadline: float = DRAIN_DEADLINE,
        on_crash: Callable[[], None] = stop_process,
        on_stalled: Callable[[], None] = exit_process,
    ) -> None:
        self.state = RuntimeState.STARTING
        self.crash: Exception | None = None
        self._actors = actors
        self._drain = drain
        self._drain_deadline = drain_deadline
        self._on_crash = on_crash
        self._on_stalled = on_stalled
        self._scope: anyio.CancelScope  # of the actors; scopes are made on the loop, a runtime need not be
        self._draining: anyio.CancelScope | None = None
        self._ended = anyio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start the actors; on exit drain them until the deadline, then cancel the rest.

        A failure to start is raised here. A crash later stops the process instead: the body is the web
        server's lifespan, and ASGI servers ignore an error raised from within it.
        """
        async with anyio.create_task_group() as group:
            await group.start(self._run_actors, name="actors")
            if threading.current_thread() is threading.main_thread():  # Python has signals only there
                await group.start(self._drain_on_signal, name="drain signal")
            try:
                yield
            finally:
                await self.drain()
                group.cancel_scope.cancel()

    async def drain(self) -> None:
        """Bring the actors to rest and return when none is left; a second call waits for the first.

        Cancelled, it still goes on to its end or its deadline.
        """
        if self.state is RuntimeState.RUNNING:
            self.state = RuntimeState.DRAINING
            log.info("draining", action="runtime_draining")
            await self._drain_until_deadline()
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
            log.critical("an actor crashed; stopping the process", action="runtime_crashed", exc_info=error)
            if self._draining:
                self._draining.cancel()
            self._on_crash()
        finally:
            self._ended.set()

    async def _drain_on_signal(self, *, task_status: TaskStatus[None]) -> None:
        with anyio.open_signal_receiver(DRAIN_SIGNAL) as signals:
            task_status.started()
            async for _ in signals:
                deadline = anyio.current_time() + self._drain_deadline
                await self.drain()
                await anyio.sleep_until(deadline)  # the lifespan's end, after the last response, cancels this
                log.warning("leaving responses that nobody reads", action="runtime_stalled")
                self._on_stalled()
