"""The port Readings over a table."""

from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from datetime import datetime, timedelta

from bg_ingest.adapters.table import keys, records
from bg_ingest.adapters.table.commits import commit_writes
from bg_ingest.adapters.table.guarded import Guarded, perform
from bg_ingest.adapters.table.protocol import Put, Table
from bg_ingest.adapters.table.rings import TableRings
from bg_ingest.domain.commits import Commit, Head, Place, Shelf
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.segments import Known, segment_start
from bg_ingest.domain.windows import Window
from bg_ingest.errors import Fenced

SEGMENTS_PAGE = 100
"""Segments read at once: 25 days of a 5-minute sensor, about 60 KB."""

SHELVES_PAGE = 10
"""Shelves read at once: full ones are 300 KB."""


class TableReadings:
    def __init__(self, table: Table, rings: TableRings) -> None:
        self._table = table
        self._rings = rings

    async def head(self, user: UserId) -> Head | None:
        found = await self._table.get(keys.head(user))
        return records.head_of(user, found) if found else None

    async def known(self, user: UserId, segments: Collection[datetime]) -> tuple[Head | None, Known]:
        starts = {keys.segment(user, start): start for start in segments}
        found = await self._table.batch_get([keys.head(user), *starts])
        head = found.pop(keys.head(user), None)
        known = {starts[key]: records.segment_of(starts[key], each) for key, each in found.items()}
        return records.head_of(user, head) if head else None, known

    async def shelves(self, user: UserId, places: Collection[Place]) -> dict[Place, Shelf]:
        by_key = {keys.quarantine(user, place): place for place in places}
        found = await self._table.batch_get(list(by_key))
        return {by_key[key]: records.shelf_of(by_key[key], each) for key, each in found.items()}

    async def all_shelves(self, user: UserId) -> AsyncGenerator[Shelf]:
        query = self._table.query(keys.user_pk(user), keys.QUARANTINE, keys.beyond(keys.QUARANTINE), page=SHELVES_PAGE)
        async with aclosing(query) as pages:
            async for page in pages:
                for key, found in page:
                    yield records.shelf_of(keys.parse_quarantine(key), found)

    async def commit(self, commit: Commit) -> None:
        writes = commit_writes(commit)
        if ring := await self._ring(commit):
            writes.append(Guarded(ring, Fenced))
        await perform(self._table, writes)

    async def _ring(self, commit: Commit) -> Put | None:
        """One ring is enough: a look tells too."""
        if commit.step and commit.step.look:
            return await self._rings.look(commit.step.after.id)
        return self._rings.tell(commit.user) if commit.changes else None

    async def packed(self, user: UserId, window: Window, *, consistent: bool = False) -> AsyncGenerator[bytes]:
        _, low = keys.segment(user, segment_start(window.start))
        _, high = keys.segment(user, segment_start(window.end - timedelta(microseconds=1)))
        query = self._table.query(keys.user_pk(user), low, high, consistent=consistent, page=SEGMENTS_PAGE)
        async with aclosing(query) as pages:
            async for page in pages:
                for _, found in page:
                    yield records.packed_of(found)
