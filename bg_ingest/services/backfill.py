"""Reading the past again by hand: marked in the connection, read by whichever process polls it."""

from datetime import datetime

import msgspec

from bg_ingest.domain.connections import POLLED, Connection, Defaults
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.windows import Window
from bg_ingest.errors import Conflicted, Fenced, NotPossible, StoreUnavailable, Unknown
from bg_ingest.ports import Clock, Hints, Store

TRIES = 5


class Backfilling:
    """Marks stretches to be read; what is marked already stays so."""

    def __init__(self, store: Store, clock: Clock, hints: Hints, defaults: Defaults) -> None:
        self._connections = store.connections
        self._clock = clock
        self._hints = hints
        self._defaults = defaults

    async def begin(self, connection: ConnectionId, start: datetime | None, end: datetime | None) -> Window:
        """Mark a stretch and return it: from the wanted past's start until now, where an end is left open.

        Unknown; NotPossible when the connection is not polled, or the stretch is empty or lies ahead.
        """
        for _ in range(TRIES):
            before = await self._connections.get(connection)
            if before is None:
                raise Unknown
            if before.state not in POLLED:
                raise NotPossible(f"the connection is {before.state}: nothing of it is read until it is active")
            asked = self._asked(before, start, end)
            after = msgspec.structs.replace(before, backfill=asked.before(asked.end, joining=before.backfill))
            try:
                await self._connections.note(before, after, look=True)
            except (Fenced, Conflicted):  # a poll moved it between our read and write, or is about to
                continue
            self._hints.look(connection)
            return asked
        raise StoreUnavailable("too many writers at once")

    def _asked(self, connection: Connection, start: datetime | None, end: datetime | None) -> Window:
        now = self._clock.now()
        end = min(now, end or now)
        if start is None:
            wanted = self._defaults.wanted_past(connection) or connection.available
            start = wanted.start if wanted else connection.connected_at
        if start >= end:
            raise NotPossible("there is nothing between these times: 'from' must be before 'to', and in the past")
        return Window(start, end)
