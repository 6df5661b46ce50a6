"""Audit records: one partition per hash of a user, ordered by time."""

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from datetime import datetime

import anyio

from bg_ingest.domain.access import AuditAction, AuditRecord
from bg_ingest.domain.segment_codec import to_epoch_ms, to_epoch_seconds
from bg_ingest.domain.windows import Window
from bg_ingest.ports.table import Absent, ConditionFailed, Item, Put, StoredItem
from bg_ingest.store import keys
from bg_ingest.store.items import ItemStore, build_item, from_epoch_ms

MAX_CONCURRENT_WRITES = 8
"""Few, because API requests have precedence."""


class AuditStore(ItemStore):
    """Append-only audit records that expire."""

    async def hash_key(self, fresh: bytes) -> bytes:
        """Return the sealed key with which user ids are hashed. Without a stored key, store and return ``fresh``."""
        stored = await self._table.get(keys.AUDIT_KEY)
        if stored is None:
            try:
                await self._table.write(Put(keys.AUDIT_KEY, build_item(sealed=fresh), (Absent(),)))
            except ConditionFailed:  # another process wrote it at the same time
                stored = await self._table.get(keys.AUDIT_KEY)
        return bytes(stored["sealed"]) if stored else fresh

    async def find_hash_key(self) -> bytes | None:
        """Return the sealed key with which user ids are hashed; None if there is none yet."""
        stored = await self._table.get(keys.AUDIT_KEY)
        return bytes(stored["sealed"]) if stored else None

    async def add(self, records: Collection[AuditRecord], expires_at: datetime) -> None:
        """Write records; equal ones share a row. The call is idempotent: after an error, repeat it."""
        writes = [Put(keys.audit(record), _encode(record, expires_at)) for record in records]

        async def write_remaining() -> None:
            while writes:
                await self._table.write(writes.pop())

        try:
            async with anyio.create_task_group() as group:
                for _ in range(min(MAX_CONCURRENT_WRITES, len(writes))):
                    group.start_soon(write_remaining)
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def iter_records(
        self, user_hash: str, window: Window, now: datetime
    ) -> AsyncGenerator[Sequence[AuditRecord]]:
        """Yield the unexpired records of a user, ascending."""
        pk, low, high = keys.audit_range(user_hash, window)
        async with aclosing(self._table.query(pk, low, high)) as pages:
            async for page in pages:
                yield [_decode(user_hash, item) for _, item in page if item["expires_at"] > now.timestamp()]


def _encode(record: AuditRecord, expires_at: datetime) -> Item:
    return build_item(
        at=to_epoch_ms(record.at),
        action=record.action,
        credential=record.credential,
        route=record.route,
        expires_at=to_epoch_seconds(expires_at),
    )


def _decode(user_hash: str, item: StoredItem) -> AuditRecord:
    at = from_epoch_ms(item["at"])
    return AuditRecord(user_hash, at, AuditAction(item["action"]), item["credential"], item["route"])
