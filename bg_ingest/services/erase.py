"""Erase a user: nothing can be written any more at once, and nothing is left soon after."""

from collections.abc import Sequence
from contextlib import suppress
from random import uniform

import anyio
import structlog

from bg_ingest.domain.connections import Connection
from bg_ingest.domain.erasure import Erased, Removed, erasure
from bg_ingest.domain.ids import UserId
from bg_ingest.errors import Conflicted, Outdated, StoreUnavailable, Unknown
from bg_ingest.ports import Clock, Hints, Store
from bg_ingest.services.commit import TRIES

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Erasing:
    """Begins erasures and brings them to their end; any process may go on with what another began."""

    def __init__(self, store: Store, clock: Clock, hints: Hints) -> None:
        self._store = store
        self._clock = clock
        self._hints = hints

    async def erase(self, user: UserId) -> Removed:
        """Erase all we hold of the user; return what was removed, which is nothing the second time.

        Unknown when we never knew the user. After StoreUnavailable the same again goes on where this stopped, and so
        does whichever process finds it first.
        """
        erased, removed, gone = await self._begin(user)
        if erased is not None:
            removed = removed.plus(await self.finish(erased))
            log.info("erased a user", action="user_erased", change=erased.change)
        await self._unseat(gone)
        return removed

    async def finish(self, erased: Erased) -> Removed:
        """Delete what is left; what was removed by others meanwhile does not count."""
        removed = Removed(keys=await self._keys_without(erased.user))
        while (some := await self._cleared(erased)) is not None:
            removed = removed.plus(some)
        return removed

    async def _unseat(self, gone: Sequence[Connection]) -> None:
        """Have whoever polls them find out now, not at the next slot. Last: finishing deletes rings for looks too."""
        with suppress(StoreUnavailable, Conflicted):
            for each in gone:
                await self._store.rings.ring(each.id)
                self._hints.look(each.id)

    async def _begin(self, user: UserId) -> tuple[Erased | None, Removed, Sequence[Connection]]:
        for attempt in range(TRIES):
            head = await self._store.readings.head(user)
            connections = await self._store.connections.of_user(user)
            if not connections and head is None:
                raise Unknown
            if not connections and head is not None and head.erased:
                return await self._store.erasures.left_of(user), Removed(), ()
            begun = erasure(user, head, connections, self._clock.now())
            try:
                removed = await self._store.erasures.begin(begun)
            except (Outdated, Conflicted):  # a poll or push was under way: it is in, or it sees the tombstone
                await anyio.sleep(uniform(0, 0.01 * 2**attempt))
                continue
            self._hints.told([begun.change])
            return begun.left, removed, connections
        raise StoreUnavailable("too many writers at once")

    async def _keys_without(self, user: UserId) -> int:
        for _ in range(TRIES):
            with suppress(Outdated, Conflicted):  # another erasure shortened a list: what it left is looked at again
                return await self._store.keys.forget(user)
        raise StoreUnavailable("too many writers at once")

    async def _cleared(self, erased: Erased) -> Removed | None:
        for attempt in range(TRIES):
            try:
                return await self._store.erasures.clear(erased)
            except Conflicted:
                await anyio.sleep(uniform(0, 0.01 * 2**attempt))
        raise StoreUnavailable("too many transactions at once")
