"""Everything we hold of a person, for that person: row by row, each says what it is."""

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
    """Reads what is stored of one user, never more than a page of it at a time."""

    def __init__(
        self, store: Store, quarantine_review: QuarantineReview, audit_log: AuditLog, clock: Clock, source: str
    ) -> None:
        self._store = store
        self._quarantine_review = quarantine_review
        self._audit_log = audit_log
        self._clock = clock
        self._source = source

    async def check_user(self, user: UserId) -> None:
        """Unknown when nothing is stored of the user, or no more."""
        head = await self._store.readings.head(user)
        if head.erased if head else not await self._store.connections.list_for_user(user):
            raise NotFound

    async def rows(self, user: UserId) -> AsyncGenerator[Sequence[Row]]:
        """Yield all of it. The last row counts the ones before: without it, something is missing.

        Unknown also when the user is erased meanwhile.
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
        """Yield connections with when their grants were given and renewed; never a credential."""
        for each in await self._store.connections.list_for_user(user):
            _, grant = await self._store.connections.get_with_grant(each.id)
            grant_row = {"version": grant.version, "renewed_at": grant.refreshed_at} if grant else None
            yield [{"kind": "connection", **msgspec.structs.asdict(each), "grant": grant_row}]

    async def _readings(self, user: UserId) -> AsyncGenerator[Sequence[Row]]:
        async with aclosing(self._store.readings.iter_packed(user, ALL_TIME, consistent=True)) as segments:
            async for packed in segments:
                yield [{"kind": "reading", **msgspec.structs.asdict(each)} for each in unpack(packed)]

    async def _changes(self, user: UserId) -> AsyncGenerator[Sequence[Row]]:
        """Yield what was told, newest first, as far back as it is kept."""
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
        """Return a record as it came; where no key opens it, that it is there."""
        row = {"kind": "quarantined", "reason": reviewed.record.reason, "noticed_at": reviewed.record.noticed_at}
        try:
            return row | {"record": self._quarantine_review.open_record(reviewed).decode(errors="replace")}
        except SealBroken:
            return row | {"record": None}

    async def _keys(self, user: UserId) -> AsyncGenerator[Sequence[Row]]:
        """Yield the API keys that are limited to this user, alone or with others, whom it does not name."""
        yield [
            {
                "kind": "api_key",
                "id": each.id,
                "name": each.name,
                "scopes": sorted(each.scopes),
                "made_at": each.made_at,
                "ends_at": each.ends_at,
                "revoked_at": each.revoked_at,
                "used_at": each.used_at,
            }
            for each in await self._store.keys.read_all()
            if each.users and user in each.users
        ]

    async def _audit(self, user: UserId) -> AsyncGenerator[Sequence[Row]]:
        async with aclosing(self._audit_log.records(user, ALL_TIME)) as batches:
            async for batch in batches:
                yield [
                    {
                        "kind": "audit",
                        "at": each.at,
                        "action": each.action,
                        "credential": each.credential,
                        "route": each.route,
                    }
                    for each in batch
                ]
