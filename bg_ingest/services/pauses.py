"""Pauses of long computations, in which the event loop runs other work."""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar

from anyio.lowlevel import checkpoint

pacing: ContextVar[Callable[[], Awaitable[None]]] = ContextVar("pacing", default=checkpoint)
"""Pause of the current task. The API sets one that waits for the short requests of other callers."""


async def pause() -> None:
    await pacing.get()()
