"""A wake-up that may be rung many times and is heard once."""

import anyio


class Bell:
    """The in-memory hint "look again now", for one listener.

    Rings coalesce, and a ring that comes while nobody listens is kept for the next wait. Nothing may depend
    on a ring: it is lost with the process, so what must survive is written down as a row too.
    """

    def __init__(self) -> None:
        self._rung = anyio.Event()

    def ring(self) -> None:
        """Wake the listener; only from the event loop's own thread."""
        self._rung.set()

    async def wait(self, seconds: float) -> bool:
        """Wait to be rung, at most so long; tell whether it was."""
        with anyio.move_on_after(seconds):
            await self._rung.wait()
        rung, self._rung = self._rung.is_set(), anyio.Event()
        return rung
