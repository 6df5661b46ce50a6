"""A wake-up that may be rung many times and is heard once."""

import anyio


class Wakeup:
    """The in-memory hint "look again now", for one listener.

    Rings coalesce, and a ring that comes while nobody listens is kept for the next wait. Nothing may depend
    on a ring: it is lost with the process, so what must survive is written down as a row too.
    """

    def __init__(self) -> None:
        self._event = anyio.Event()

    def set(self) -> None:
        """Wake the listener; only from the event loop's own thread."""
        self._event.set()

    async def wait(self, seconds: float) -> bool:
        """Wait to be rung, at most so long; tell whether it was."""
        with anyio.move_on_after(seconds):
            await self._event.wait()
        was_set, self._event = self._event.is_set(), anyio.Event()
        return was_set
