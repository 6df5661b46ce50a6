"""Segments: six hours of packed readings per item, and the reads of a user's series."""

from collections.abc import AsyncGenerator, Collection, Iterator, Mapping
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import NamedTuple

from bg_ingest.domain.commits import Commit, Head
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.segment_codec import pack, unpack
from bg_ingest.domain.segments import KnownSegments, Segment, segment_start
from bg_ingest.domain.windows import Window
from bg_ingest.errors import StaleRead
from bg_ingest.ports.table import Absent, Equals, Item, Key, Put, StoredItem, Table
from bg_ingest.store import keys
from bg_ingest.store.coalesced_reads import CoalescedReads
from bg_ingest.store.head import decode_head
from bg_ingest.store.items import VERSION_OK, ConditionalWrite, ItemStore, build_item

SEGMENT_BATCH_SIZE = 400
"""Segments read at once: 100 days of a 5-minute sensor, about 240 KB."""


class SeriesRead(NamedTuple):
    """Head and existing segments by start, as read. ``starts`` has the starts of all requested segments."""

    head: Head | None
    segments: KnownSegments
    starts: frozenset[datetime]


class ReadingStore(ItemStore):
    """Heads and time series of users."""

    def __init__(self, table: Table) -> None:
        super().__init__(table)
        self._heads = CoalescedReads(table)

    async def head(self, user: UserId) -> Head | None:
        """Return the head, after an erasure the tombstone. Concurrent requests share a read."""
        item = await self._heads.get(keys.head(user))
        return decode_head(user, item) if item else None

    async def heads(self, users: Collection[UserId], *, consistent: bool = False) -> dict[UserId, Head]:
        """Return the heads of many users, absent for users that never connected.

        Each may be a second old unless ``consistent``.
        """
        by_key = {keys.head(user): user for user in users}
        if not by_key:
            return {}
        items = await self._table.batch_get(list(by_key), consistent=consistent)
        return {by_key[key]: decode_head(by_key[key], item) for key, item in items.items()}

    async def heads_after(self, cursors: Mapping[UserId, int | None]) -> dict[UserId, Head]:
        """Return the heads of many users. Each may be a second old, but is not behind the cursor of its user.

        A head that is absent or behind is read again, consistently.
        """
        heads = await self.heads(cursors)
        behind = [
            user
            for user, cursor in cursors.items()
            if (head := heads.get(user)) is None or head.last_change < (cursor or 0)
        ]
        return heads | await self.heads(behind, consistent=True)

    async def read(self, user: UserId, segments: Collection[datetime]) -> SeriesRead:
        """Return the head and the existing segments by start, in one read."""
        starts = {keys.segment(user, start): start for start in segments}
        return decode_series(user, starts, await self._table.batch_get([keys.head(user), *starts]))

    async def iter_packed(self, user: UserId, window: Window, *, consistent: bool = False) -> AsyncGenerator[bytes]:
        """Yield the packed segments that overlap the window, ascending.

        The data may be a second old unless ``consistent``.
        """
        _, low = keys.segment(user, segment_start(window.start))
        _, high = keys.segment(user, segment_start(window.end - timedelta(microseconds=1)))
        query = self._table.query(
            keys.user_pk(user), low, high, consistent=consistent, page=SEGMENT_BATCH_SIZE, attributes=["readings"]
        )
        async with aclosing(query) as pages:
            async for page in pages:
                for _, item in page:
                    yield bytes(item["readings"])


def decode_series(user: UserId, starts: Mapping[Key, datetime], items: Mapping[Key, StoredItem]) -> SeriesRead:
    """Return the head and the existing segments among items; ``starts`` has the start of each segment by its key."""
    head = items.get(keys.head(user))
    known = {start: decode_segment(start, items[key]) for key, start in starts.items() if key in items}
    return SeriesRead(decode_head(user, head) if head else None, known, frozenset(starts.values()))


def encode_segment(segment: Segment) -> Item:
    return build_item(change=segment.change, readings=pack(segment.readings))


def decode_segment(start: datetime, item: StoredItem) -> Segment:
    return Segment(start, item["change"], unpack(item["readings"]))


def commit_writes(commit: Commit) -> Iterator[ConditionalWrite]:
    for segment in commit.segments:
        old = commit.known_segments.get(segment.start)
        conditions = (Absent(),) if old is None else (Equals("change", old.change), VERSION_OK)
        key = keys.segment(commit.user, segment.start)
        yield ConditionalWrite(Put(key, encode_segment(segment), conditions), StaleRead)
