"""Quarantine pages: sealed unreadable records of a user, by segment, or by digest if they have no time."""

from collections.abc import AsyncGenerator, Collection, Iterator
from contextlib import aclosing
from datetime import timedelta

import msgspec

from bg_ingest.domain.commits import Commit
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.quarantine import QuarantinedRecord, QuarantineKey, QuarantinePage
from bg_ingest.domain.segment_codec import to_epoch_ms
from bg_ingest.domain.segments import SEGMENT_HOURS, segment_start
from bg_ingest.domain.windows import Window
from bg_ingest.errors import StaleRead
from bg_ingest.ports.table import Item, Put, StoredItem
from bg_ingest.store import keys
from bg_ingest.store.items import ConditionalWrite, ItemStore, build_item, from_epoch_ms, version_conditions

QUARANTINE_BATCH_SIZE = 10
"""Pages per read. A full page has 300 KB."""


class QuarantineStore(ItemStore):
    async def read_pages(
        self, user: UserId, page_keys: Collection[QuarantineKey]
    ) -> dict[QuarantineKey, QuarantinePage]:
        """Return the existing pages."""
        by_key = {keys.quarantine(user, page_key): page_key for page_key in page_keys}
        items = await self._table.batch_get(list(by_key))
        return {by_key[key]: decode_quarantine_page(by_key[key], item) for key, item in items.items()}

    async def iter_pages(self, user: UserId, window: Window | None = None) -> AsyncGenerator[QuarantinePage]:
        """Yield the pages of a user; those of records without a time come last.

        With a window, yield only the pages of segments that begin in it.
        """
        low, high = keys.prefix_range(keys.QUARANTINE)
        if window is not None:
            first = segment_start(window.start + timedelta(hours=SEGMENT_HOURS) - timedelta.resolution)
            _, low = keys.quarantine(user, first)
            _, high = keys.quarantine(user, segment_start(window.end - timedelta.resolution))
            if low > high:
                return
        async with aclosing(self._table.query(keys.user_pk(user), low, high, page=QUARANTINE_BATCH_SIZE)) as pages:
            async for page in pages:
                for key, item in page:
                    yield decode_quarantine_page(keys.parse_quarantine(key), item)


def encode_quarantine_page(page: QuarantinePage) -> Item:
    records = [
        [r.reason, r.digest, r.sealed, to_epoch_ms(r.noticed_at), r.provider, r.provider_account] for r in page.records
    ]
    return build_item(version=page.version, records=msgspec.msgpack.encode(records))


def decode_quarantine_page(key: QuarantineKey, item: StoredItem) -> QuarantinePage:
    records = (
        QuarantinedRecord(reason, digest, sealed, from_epoch_ms(noticed), *origin[:2])
        # the origin is provider and provider account, absent in older records
        for reason, digest, sealed, noticed, *origin in msgspec.msgpack.decode(item["records"])
    )
    return QuarantinePage(key, item["version"], tuple(records))


def commit_writes(commit: Commit) -> Iterator[ConditionalWrite]:
    for page in commit.quarantine_pages:
        key = keys.quarantine(commit.user, page.key)
        yield ConditionalWrite(Put(key, encode_quarantine_page(page), version_conditions(page.version)), StaleRead)
