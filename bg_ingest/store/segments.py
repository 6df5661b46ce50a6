"""The port Readings over a table."""

from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from datetime import datetime, timedelta

from bg_ingest.domain.commits import Commit, Head
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.quarantine import QuarantineKey, QuarantinePage
from bg_ingest.domain.segments import KnownSegments, segment_start
from bg_ingest.domain.windows import Window
from bg_ingest.errors import Fenced
from bg_ingest.ports.table import Put, Table
from bg_ingest.store import items, keys
from bg_ingest.store.commit import commit_writes
from bg_ingest.store.conditional import ConditionalWrite, write_all
from bg_ingest.store.inbox import InboxStore

SEGMENT_BATCH_SIZE = 100
"""Segments read at once: 25 days of a 5-minute sensor, about 60 KB."""

QUARANTINE_BATCH_SIZE = 10
"""Shelves read at once: full ones are 300 KB."""


class ReadingStore:
    """A user's time series, its head, and the one transaction that changes either."""

    def __init__(self, table: Table, inbox: InboxStore) -> None:
        self._table = table
        self._inbox = inbox

    async def head(self, user: UserId) -> Head | None:
        """Return the head (also an erased one): one read."""
        found = await self._table.get(keys.head(user))
        return items.decode_head(user, found) if found else None

    async def read(self, user: UserId, segments: Collection[datetime]) -> tuple[Head | None, KnownSegments]:
        """Return the head and those segments that exist, by start: one read for all."""
        starts = {keys.segment(user, start): start for start in segments}
        found = await self._table.batch_get([keys.head(user), *starts])
        head = found.pop(keys.head(user), None)
        known = {starts[key]: items.decode_segment(starts[key], each) for key, each in found.items()}
        return items.decode_head(user, head) if head else None, known

    async def read_pages(
        self, user: UserId, page_keys: Collection[QuarantineKey]
    ) -> dict[QuarantineKey, QuarantinePage]:
        """Return those shelves of set-aside records that exist."""
        by_key = {keys.quarantine(user, page_key): page_key for page_key in page_keys}
        found = await self._table.batch_get(list(by_key))
        return {by_key[key]: items.decode_quarantine_page(by_key[key], each) for key, each in found.items()}

    async def iter_pages(self, user: UserId) -> AsyncGenerator[QuarantinePage]:
        """Yield every shelf of a user, the one without a time last."""
        query = self._table.query(
            keys.user_pk(user), keys.QUARANTINE, keys.prefix_end(keys.QUARANTINE), page=QUARANTINE_BATCH_SIZE
        )
        async with aclosing(query) as pages:
            async for page in pages:
                for key, found in page:
                    yield items.decode_quarantine_page(keys.parse_quarantine(key), found)

    async def commit(self, commit: Commit) -> None:
        """Write everything or nothing.

        StaleRead: the head, a segment or a shelf is not as read. Fenced: the connection is not. TransactionConflict:
        another transaction was under way. StoreUnavailable: it may have happened; repeating it is then StaleRead.
        """
        writes = commit_writes(commit)
        if request := await self._owner_request(commit):
            writes.append(ConditionalWrite(request, Fenced))
        await write_all(self._table, writes)

    async def _owner_request(self, commit: Commit) -> Put | None:
        """One ring is enough: a look tells too."""
        if commit.connection_update and commit.connection_update.request_poll:
            return await self._inbox.poll_request(commit.connection_update.after.id)
        return self._inbox.publish_request(commit.user) if commit.changes else None

    async def iter_packed(self, user: UserId, window: Window, *, consistent: bool = False) -> AsyncGenerator[bytes]:
        """Yield the packed segments that the window touches, ascending; may lag a second unless ``consistent``."""
        _, low = keys.segment(user, segment_start(window.start))
        _, high = keys.segment(user, segment_start(window.end - timedelta(microseconds=1)))
        query = self._table.query(keys.user_pk(user), low, high, consistent=consistent, page=SEGMENT_BATCH_SIZE)
        async with aclosing(query) as pages:
            async for page in pages:
                for _, found in page:
                    yield items.packed_readings(found)
