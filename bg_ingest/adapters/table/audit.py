"""The port Trail over a table: a partition for each person's hash, in the order of time."""

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from datetime import UTC, datetime

import anyio

from bg_ingest.adapters.table import keys
from bg_ingest.adapters.table.protocol import Absent, ConditionFailed, Item, Put, Table
from bg_ingest.adapters.table.records import Found, item
from bg_ingest.domain.audit import Action, Record
from bg_ingest.domain.columns import milliseconds, seconds
from bg_ingest.domain.windows import Window

AT_ONCE = 8
"""Writes under way together: the audit gives way to what people wait for."""


class TableTrail:
    def __init__(self, table: Table) -> None:
        self._table = table

    async def key(self, fresh: bytes) -> bytes:
        kept: Found | None = await self._table.get(keys.AUDIT_KEY)
        if kept is None:
            try:
                await self._table.write(Put(keys.AUDIT_KEY, item(sealed=fresh), (Absent(),)))
            except ConditionFailed:  # another process did, at the same time
                kept = await self._table.get(keys.AUDIT_KEY)
        return _sealed(kept) if kept else fresh

    async def add(self, records: Collection[Record], expires_at: datetime) -> None:
        left = [Put(keys.audit(each), _item(each, expires_at)) for each in records]

        async def write() -> None:
            while left:
                await self._table.write(left.pop())

        try:
            async with anyio.create_task_group() as group:
                for _ in range(min(AT_ONCE, len(left))):
                    group.start_soon(write)
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def of(self, person: str, window: Window, now: datetime) -> AsyncGenerator[Sequence[Record]]:
        pk, low, high = keys.audits(person, window)
        async with aclosing(self._table.query(pk, low, high)) as pages:
            async for page in pages:
                yield [_record(person, found) for _, found in page if _stands(found, now)]


def _sealed(found: Found) -> bytes:
    sealed: bytes = found["sealed"]
    return sealed


def _item(record: Record, expires_at: datetime) -> Item:
    return item(
        at=milliseconds(record.at),
        action=record.action,
        credential=record.credential,
        route=record.route,
        expires_at=seconds(expires_at),
    )


def _stands(found: Found, now: datetime) -> bool:
    return bool(found["expires_at"] > now.timestamp())


def _record(person: str, found: Found) -> Record:
    at = datetime.fromtimestamp(found["at"] / 1000, UTC)
    return Record(person, at, Action(found["action"]), found["credential"], found["route"])
