"""Erasure of a user: a tombstone prevents all further writes, then the stored items are deleted."""

from collections.abc import Sequence
from contextlib import aclosing, suppress

import structlog
from msgspec.structs import replace

from bg_ingest.domain.commits import NOTHING_ERASED, ErasureCounts, PendingErasure, plan_erasure
from bg_ingest.domain.connections import Connection
from bg_ingest.domain.ids import UserId
from bg_ingest.errors import NotFound, StaleRead, StoreError, StoreUnavailable, TransactionConflict
from bg_ingest.ports import Clock, Wakeups
from bg_ingest.services.polling.commit import Committer
from bg_ingest.services.retries import retrying
from bg_ingest.store import Store

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Eraser:
    """Begins and finishes erasures. Any process may finish an erasure that another began."""

    def __init__(self, store: Store, committer: Committer, clock: Clock, wakeups: Wakeups) -> None:
        self._store = store
        self._committer = committer
        self._clock = clock
        self._wakeups = wakeups
        self._unfinished: set[PendingErasure] = set()

    async def erase(self, user: UserId) -> ErasureCounts:
        """Erase all data of the user; return the counts of removed items, which are zero the second time.

        NotFound if nothing was ever stored of the user. After StoreUnavailable the erasure is unfinished. A repeated
        call, or ``finish_unfinished`` in any process, continues it.
        """
        pending, removed, former_connections = await self._begin(user)
        if pending is not None:
            removed = removed.merge(await self.finish(pending))
            log.info("erased a user", action="user_erased", change=pending.change)
        await self._request_polls(former_connections)
        return removed

    async def finish(self, pending: PendingErasure) -> ErasureCounts:
        """Delete the remaining items; items that another process deletes meanwhile are not counted."""
        removed = replace(NOTHING_ERASED, keys=await self._remove_from_keys(pending.user))
        while (batch := await self._delete_next(pending)) is not None:
            removed = removed.merge(batch)
        return removed

    async def finish_unfinished(self) -> None:
        """Finish erasures that the previous call found unfinished too. A crash or a store failure interrupted them.

        An erasure seen for the first time is left to the process that began it.
        """
        try:
            async with aclosing(self._store.erasures.iter_pending()) as entries:
                unfinished = {pending async for pending in entries}
            overdue, self._unfinished = unfinished & self._unfinished, unfinished
            for pending in overdue:
                await self.finish(pending)
                log.info("finished an erasure", action="user_erased", change=pending.change)
        except StoreError as error:
            log.warning("cannot finish erasures", action="erasures_unfinished", error=type(error).__name__)

    async def _request_polls(self, former_connections: Sequence[Connection]) -> None:
        """Request polls, so that the erasure affects the pollers now and not at the next slot.

        Called last, because finishing an erasure deletes poll requests too.
        """
        with suppress(StoreUnavailable, TransactionConflict):
            for connection in former_connections:
                await self._store.inbox.request_poll(connection.id)
                self._wakeups.wake_poller(connection.id)

    @retrying(StaleRead, TransactionConflict, first_wait=0.01)
    async def _begin(self, user: UserId) -> tuple[PendingErasure | None, ErasureCounts, Sequence[Connection]]:
        head = await self._store.readings.head(user)
        connections = await self._store.connections.list_for_user(user)
        if not connections and head is None:
            raise NotFound
        if not connections and head is not None and head.erased:
            return await self._store.erasures.pending_for(user), NOTHING_ERASED, ()
        planned = plan_erasure(user, head, connections, self._clock.now())
        # StaleRead, TransactionConflict: a poll or push interfered; it commits before the tombstone, or fails after it
        removed = await self._committer.begin_erasure(planned)
        return planned.pending, removed, connections

    @retrying(StaleRead, TransactionConflict)
    async def _remove_from_keys(self, user: UserId) -> int:
        return await self._store.keys.remove_user(user)  # StaleRead: another erasure shortened the list of a key

    @retrying(TransactionConflict, first_wait=0.01, error=lambda: StoreUnavailable("too many transactions at once"))
    async def _delete_next(self, pending: PendingErasure) -> ErasureCounts | None:
        return await self._store.erasures.delete_next(pending)
