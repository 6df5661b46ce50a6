"""Signals between the tasks of one process."""

import anyio


class Wakeup:
    """Coalescing event for one listener: a hint to check for work now. Several calls of ``set`` cause one wake-up.

    A call without a waiting listener is kept for the next wait. Nothing may depend on a wake-up, because it is lost
    with the process: work that must not be lost is also stored as a row.
    """

    def __init__(self) -> None:
        self._event = anyio.Event()

    def set(self) -> None:
        """Wake the listener; only from the event loop's own thread."""
        self._event.set()

    async def wait(self, seconds: float) -> bool:
        """Wait for a wake-up, at most so many seconds; return True if there was one."""
        with anyio.move_on_after(seconds):
            await self._event.wait()
        was_set, self._event = self._event.is_set(), anyio.Event()
        return was_set


class RunningTask:
    """A running poll or outbox pass: ``scope`` cancels it, ``finished`` is set at its end."""

    def __init__(self, shard: int) -> None:
        self.shard = shard
        self.scope = anyio.CancelScope()
        self.finished = anyio.Event()
