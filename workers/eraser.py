"""Bring erasures to their end that a crash or a store out of reach left unfinished."""

from contextlib import aclosing

import anyio
import structlog
from anyio.abc import TaskStatus

from bg_ingest.domain.erasure import Erased
from bg_ingest.errors import StoreError
from bg_ingest.ports import Erasures
from bg_ingest.services.erase import Erasing

log: structlog.stdlib.BoundLogger = structlog.get_logger()

EVERY = 60.0
"""Seconds between two looks: one query, mostly of nothing."""


class Eraser:
    """Finishes whatever stood unfinished at two looks in a row: until then whoever began it is at it."""

    def __init__(self, erasures: Erasures, erasing: Erasing) -> None:
        self._erasures = erasures
        self._erasing = erasing
        self._seen: set[Erased] = set()

    async def __call__(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Look until cancelled."""
        task_status.started()
        while True:
            try:
                await self.look()
            except StoreError as error:
                log.warning("cannot finish erasures", action="erasures_unfinished", error=type(error).__name__)
            await anyio.sleep(EVERY)

    async def look(self) -> int:
        """Finish what stood there at the look before; return how many that were."""
        async with aclosing(self._erasures.unfinished()) as unfinished:
            found = {each async for each in unfinished}
        left, self._seen = found & self._seen, found
        for erased in left:
            await self._erasing.finish(erased)
            log.info("finished an erasure", action="user_erased", change=erased.change)
        return len(left)
