"""Export of all stored data of a user, as rows that name their kind."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, TypeAlias

import msgspec

from bg_ingest.domain.cloud_events import encode_cloud_event
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.segment_codec import unpack
from bg_ingest.domain.windows import Window
from bg_ingest.errors import NotFound, SealBroken
from bg_ingest.ports import Clock
from bg_ingest.services.access.audit import AuditLog
from bg_ingest.services.polling.quarantine_review import QuarantineReview, ReviewedRecord
from bg_ingest.store import Store

Row: TypeAlias = dict[str, Any]

ALL_TIME = Window(datetime(1970, 1, 1, tzinfo=UTC), datetime(2999, 12, 31, tzinfo=UTC))

CHANGES_BATCH_SIZE = 100


class Exporter:
    """Reads the stored data of one user, one page at a time."""

    def __init__(
        self, store: Store, quarantine_review: QuarantineReview, audit_log: AuditLog, clock: Clock, source: str
    ) -> None:
        self._store = store
        self._quarantine_review = quarantine_review
        self._audit_log = audit_log
        self._clock = clock
        self._source = source

    async def check_user(self, user: UserId) -> None:
        """Raise NotFound if nothing is stored of the user, or the user was erased."""
        head = await self._store.readings.head(user)
        if head.erased if head else not await self._store.connections.list_for_user(user):
            raise NotFound

    async def rows(self, user: UserId) -> AsyncGenerator[Sequence[Row]]:
        """Yield all rows. The last one counts the others: an export without it is incomplete.

        Raises:
            NotFound: the user was erased meanwhile.
        """
        count = 0
        parts = (
            self._connections,
            self._readings,
            self._changes,
            self._gaps,
            self._quarantined_records,
            self._keys,
            self._audit,
        )
        yield [{"kind": "user", "user_id": user, "exported_at": self._clock.now()}]
        for part in parts:
            async with aclosing(part(user)) as batches:
                async for batch in batches:
                    count += len(batch)
                    yield batch
        await self.check_user(user)
        yield [{"kind": "end", "rows": count + 1}]

    async def _connections(self, user: UserId) -> AsyncGenerator[Sequence[Row]]:
        """Yield connections with the version and renewal time of their grants, but no credentials."""
        for connection in await self._store.connections.list_for_user(user):
            _, grant = await self._store.connections.get_with_grant(connection.id)
            grant_row = {"version": grant.version, "renewed_at": grant.refreshed_at} if grant else None
            yield [{"kind": "connection", **msgspec.structs.asdict(connection), "grant": grant_row}]

    async def _readings(self, user: UserId) -> AsyncGenerator[Sequence[Row]]:
        async with aclosing(self._store.readings.iter_packed(user, ALL_TIME, consistent=True)) as segments:
            async for packed in segments:
                yield [{"kind": "reading", **msgspec.structs.asdict(reading)} for reading in unpack(packed)]

    async def _changes(self, user: UserId) -> AsyncGenerator[Sequence[Row]]:
        """Yield the published events, newest first, as far back as they are stored."""
        head = await self._store.readings.head(user)
        last = head.last_change if head else 0
        while last > 0:
            changes = await self._store.changes.read(user, max(1, last - CHANGES_BATCH_SIZE + 1), last)
            if not changes:
                return
            events = (encode_cloud_event(change, self._source) for change in reversed(changes))
            yield [{"kind": "event", "event": msgspec.Raw(event)} for event in events]
            last -= CHANGES_BATCH_SIZE

    async def _gaps(self, user: UserId) -> AsyncGenerator[Sequence[Row]]:
        for connection in await self._store.connections.list_for_user(user):
            yield await self._gaps_of(connection.id)

    async def _gaps_of(self, connection: ConnectionId) -> list[Row]:
        months = await self._store.gaps.read_months(connection, ALL_TIME.start, ALL_TIME.end)
        return [
            {"kind": "gap", "provider": connection.provider, **msgspec.structs.asdict(gap)}
            for month in months
            for gap in month.gaps
        ]

    async def _quarantined_records(self, user: UserId) -> AsyncGenerator[Sequence[Row]]:
        async with aclosing(self._quarantine_review.iter_records(user)) as records:
            async for reviewed in records:
                yield [self._open_record(reviewed)]

    def _open_record(self, reviewed: ReviewedRecord) -> Row:
        """Return a record as it was received; without its content if no key opens it."""
        row = {"kind": "quarantined", "reason": reviewed.record.reason, "noticed_at": reviewed.record.noticed_at}
        try:
            return row | {"record": self._quarantine_review.open_record(reviewed).decode(errors="replace")}
        except SealBroken:
            return row | {"record": None}

    async def _keys(self, user: UserId) -> AsyncGenerator[Sequence[Row]]:
        """Yield the API keys that are limited to this user or to several users with it; the others are not named."""
        yield [
            {
                "kind": "api_key",
                "id": key.id,
                "name": key.name,
                "scopes": sorted(key.scopes),
                "made_at": key.made_at,
                "ends_at": key.ends_at,
                "revoked_at": key.revoked_at,
                "used_at": key.used_at,
            }
            for key in await self._store.keys.read_all()
            if key.users and user in key.users
        ]

    async def _audit(self, user: UserId) -> AsyncGenerator[Sequence[Row]]:
        async with aclosing(self._audit_log.records(user, ALL_TIME)) as batches:
            async for batch in batches:
                yield [
                    {
                        "kind": "audit",
                        "at": record.at,
                        "action": record.action,
                        "credential": record.credential,
                        "route": record.route,
                    }
                    for record in batch
                ]
