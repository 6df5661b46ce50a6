"""Bring erasures to their end that a crash or a store out of reach left unfinished."""

from contextlib import aclosing

import anyio
import structlog
from anyio.abc import TaskStatus

from bg_ingest.domain.erasure import PendingErasure
from bg_ingest.errors import StoreError
from bg_ingest.services.connections.erase import Eraser
from bg_ingest.store.erasures import ErasureStore

log: structlog.stdlib.BoundLogger = structlog.get_logger()

INTERVAL_SECONDS = 60.0
"""Seconds between two looks: one query, mostly of nothing."""


class ErasureFinisher:
    """Finishes whatever stood unfinished at two looks in a row: until then whoever began it is at it."""

    def __init__(self, erasures: ErasureStore, eraser: Eraser) -> None:
        self._erasures = erasures
        self._eraser = eraser
        self._pending_before: set[PendingErasure] = set()

    async def __call__(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Look until cancelled."""
        task_status.started()
        while True:
            try:
                await self.finish_pending()
            except StoreError as error:
                log.warning("cannot finish erasures", action="erasures_unfinished", error=type(error).__name__)
            await anyio.sleep(INTERVAL_SECONDS)

    async def finish_pending(self) -> int:
        """Finish what stood there at the look before; return how many that were."""
        async with aclosing(self._erasures.iter_pending()) as entries:
            pending = {each async for each in entries}
        still_pending, self._pending_before = pending & self._pending_before, pending
        for erasure in still_pending:
            await self._eraser.finish(erasure)
            log.info("finished an erasure", action="user_erased", change=erasure.change)
        return len(still_pending)
