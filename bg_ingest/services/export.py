"""Everything we hold of a person, for that person: row by row, each says what it is."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, TypeAlias

import msgspec

from bg_ingest.domain.columns import unpack
from bg_ingest.domain.events import cloud_event
from bg_ingest.domain.ids import ConnectionId, UserId, shard_of
from bg_ingest.domain.windows import Window
from bg_ingest.errors import Unknown, Unsealable
from bg_ingest.ports import Clock, Pending, Store
from bg_ingest.services.audit import Auditing
from bg_ingest.services.quarantine import Kept, Quarantine

Row: TypeAlias = dict[str, Any]

EVER = Window(datetime(1970, 1, 1, tzinfo=UTC), datetime(2999, 12, 31, tzinfo=UTC))

CHANGES_AT_ONCE = 100


class Exporting:
    """Reads what is stored of one user, never more than a page of it at a time."""

    def __init__(self, store: Store, quarantine: Quarantine, auditing: Auditing, clock: Clock, told_by: str) -> None:
        self._store = store
        self._quarantine = quarantine
        self._auditing = auditing
        self._clock = clock
        self._told_by = told_by

    async def known(self, user: UserId) -> None:
        """Unknown when nothing is stored of the user, or no more."""
        head = await self._store.readings.head(user)
        if head.erased if head else not await self._store.connections.of_user(user):
            raise Unknown

    async def rows(self, user: UserId) -> AsyncGenerator[Sequence[Row]]:
        """Yield all of it. The last row counts the ones before: without it, something is missing.

        Unknown also when the user is erased meanwhile.
        """
        count = 0
        parts = (self._connections, self._readings, self._changes, self._gaps, self._set_aside, self._keys, self._audit)
        yield [{"kind": "user", "user_id": user, "exported_at": self._clock.now()}]
        for part in parts:
            async with aclosing(part(user)) as batches:
                async for batch in batches:
                    count += len(batch)
                    yield batch
        await self.known(user)
        yield [{"kind": "end", "rows": count + 1}]

    async def _connections(self, user: UserId) -> AsyncGenerator[Sequence[Row]]:
        """Yield connections with when their grants were given and renewed; never a credential."""
        for each in await self._store.connections.of_user(user):
            _, grant = await self._store.connections.with_grant(each.id)
            renewed = {"version": grant.version, "renewed_at": grant.refreshed_at} if grant else None
            yield [{"kind": "connection", **msgspec.structs.asdict(each), "grant": renewed}]

    async def _readings(self, user: UserId) -> AsyncGenerator[Sequence[Row]]:
        async with aclosing(self._store.readings.packed(user, EVER, consistent=True)) as segments:
            async for packed in segments:
                yield [{"kind": "reading", **msgspec.structs.asdict(each)} for each in unpack(packed)]

    async def _changes(self, user: UserId) -> AsyncGenerator[Sequence[Row]]:
        """Yield what was told, newest first, as far back as it is kept."""
        head = await self._store.readings.head(user)
        last, shard = head.last_change if head else 0, shard_of(user)
        while last > 0:
            numbers = range(last, max(0, last - CHANGES_AT_ONCE), -1)
            found = await self._store.outbox.changes([Pending(shard, user, number) for number in numbers])
            if not found:
                return
            changes = sorted(found.values(), key=lambda each: -each.number)
            yield [{"kind": "event", "event": msgspec.Raw(cloud_event(each, self._told_by))} for each in changes]
            last -= CHANGES_AT_ONCE

    async def _gaps(self, user: UserId) -> AsyncGenerator[Sequence[Row]]:
        for connection in await self._store.connections.of_user(user):
            yield await self._gaps_of(connection.id)

    async def _gaps_of(self, connection: ConnectionId) -> list[Row]:
        ledgers = await self._store.gaps.ledgers(connection, EVER.start, EVER.end)
        return [
            {"kind": "gap", "provider": connection.provider, **msgspec.structs.asdict(gap)}
            for ledger in ledgers
            for gap in ledger.gaps
        ]

    async def _set_aside(self, user: UserId) -> AsyncGenerator[Sequence[Row]]:
        async with aclosing(self._quarantine.kept(user)) as records:
            async for kept in records:
                yield [self._opened(kept)]

    def _opened(self, kept: Kept) -> Row:
        """Return a record as it came; where no key opens it, that it is there."""
        known = {"kind": "set_aside", "reason": kept.record.reason, "noticed_at": kept.record.noticed_at}
        try:
            return known | {"record": self._quarantine.raw(kept).decode(errors="replace")}
        except Unsealable:
            return known | {"record": None}

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
            for each in await self._store.keys.all()
            if each.users and user in each.users
        ]

    async def _audit(self, user: UserId) -> AsyncGenerator[Sequence[Row]]:
        async with aclosing(self._auditing.of(user, EVER)) as batches:
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
