"""Export of all stored data of a user, as rows that name their kind."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec
from msgspec.structs import asdict

from bg_ingest.domain.cloud_events import encode_cloud_event
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.segment_codec import unpack
from bg_ingest.errors import NotFound, SealBroken
from bg_ingest.ports import Clock
from bg_ingest.services.access.audit import AuditLog
from bg_ingest.services.polling.gaps import ALL_TIME
from bg_ingest.services.polling.quarantine_review import QuarantineReview, ReviewedRecord
from bg_ingest.store import Store

Row: TypeAlias = dict[str, Any]

CHANGES_BATCH_SIZE = 100

KEY_FIELDS = ("id", "name", "scopes", "made_at", "ends_at", "revoked_at", "used_at")
AUDIT_FIELDS = ("at", "action", "credential", "route")
"""Exported fields. Other users, and the digests of keys, are left out."""


@dataclass(frozen=True)
class Exporter:
    """Reads the stored data of one user, one page at a time."""

    store: Store
    quarantine_review: QuarantineReview
    audit_log: AuditLog
    clock: Clock
    source: str

    async def check_user(self, user: UserId) -> None:
        """Raise NotFound if nothing is stored of the user, or the user was erased."""
        head = await self.store.readings.head(user)
        is_known = not head.erased if head else bool(await self.store.connections.list_for_user(user))
        if not is_known:
            raise NotFound

    async def rows(self, user: UserId) -> AsyncGenerator[Sequence[Row]]:
        """Yield all rows. The last one counts the others: an export without it is incomplete.

        NotFound if the user was erased meanwhile.
        """
        count = 0
        parts = (self._connections, self._readings, self._events, self._gaps, self._quarantine, self._keys, self._audit)
        yield [{"kind": "user", "user_id": user, "exported_at": self.clock.now()}]
        for part in parts:
            async with aclosing(part(user)) as batches:
                async for batch in batches:
                    count += len(batch)
                    yield batch
        await self.check_user(user)
        yield [{"kind": "end", "rows": count + 1}]

    async def _connections(self, user: UserId) -> AsyncGenerator[Sequence[Row]]:
        """Yield connections with the version and renewal time of their grants, but no credentials."""
        for connection in await self.store.connections.list_for_user(user):
            _, grant = await self.store.connections.get_with_grant(connection.id)
            grant_row = {"version": grant.version, "renewed_at": grant.refreshed_at} if grant else None
            yield [{"kind": "connection", **asdict(connection), "grant": grant_row}]

    async def _readings(self, user: UserId) -> AsyncGenerator[Sequence[Row]]:
        async with aclosing(self.store.readings.iter_packed(user, ALL_TIME, consistent=True)) as segments:
            async for packed in segments:
                yield [{"kind": "reading", **asdict(reading)} for reading in unpack(packed)]

    async def _events(self, user: UserId) -> AsyncGenerator[Sequence[Row]]:
        """Yield all stored events in their published form, newest first, also those that are not published yet."""
        head = await self.store.readings.head(user)
        last = head.last_change if head else 0
        while last > 0:
            changes = await self.store.changes.read(user, max(1, last - CHANGES_BATCH_SIZE + 1), last)
            if not changes:
                return
            events = (encode_cloud_event(change, self.source) for change in reversed(changes))
            yield [{"kind": "event", "event": msgspec.Raw(event)} for event in events]
            last -= CHANGES_BATCH_SIZE

    async def _gaps(self, user: UserId) -> AsyncGenerator[Sequence[Row]]:
        for connection in await self.store.connections.list_for_user(user):
            months = await self.store.gaps.read_months(connection.id, ALL_TIME.start, ALL_TIME.end)
            gaps = (gap for month in months for gap in month.gaps)
            yield [{"kind": "gap", "provider": connection.id.provider, **asdict(gap)} for gap in gaps]

    async def _quarantine(self, user: UserId) -> AsyncGenerator[Sequence[Row]]:
        async with aclosing(self.quarantine_review.iter_records(user)) as records:
            async for reviewed in records:
                yield [self._open_record(reviewed)]

    def _open_record(self, reviewed: ReviewedRecord) -> Row:
        """Return a record as it was received; without its content if no key opens it."""
        row = {"kind": "quarantined", "reason": reviewed.record.reason, "noticed_at": reviewed.record.noticed_at}
        try:
            return row | {"record": self.quarantine_review.open_record(reviewed).decode(errors="replace")}
        except SealBroken:
            return row | {"record": None}

    async def _keys(self, user: UserId) -> AsyncGenerator[Sequence[Row]]:
        """Yield the API keys whose list of users contains this user. Other users of a key are not exported."""
        yield [
            {"kind": "api_key", **{name: getattr(key, name) for name in KEY_FIELDS}, "scopes": sorted(key.scopes)}
            for key in await self.store.keys.read_all()
            if key.users and user in key.users
        ]

    async def _audit(self, user: UserId) -> AsyncGenerator[Sequence[Row]]:
        async with aclosing(self.audit_log.records(user, ALL_TIME)) as batches:
            async for batch in batches:
                yield [{"kind": "audit", **{name: getattr(record, name) for name in AUDIT_FIELDS}} for record in batch]
