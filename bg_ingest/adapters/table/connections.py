"""The port Connections over a table."""

from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing

import msgspec

from bg_ingest.adapters.table import keys
from bg_ingest.adapters.table.connection_records import (
    connection_item,
    connection_of,
    grant_item,
    grant_of,
    listed_of,
)
from bg_ingest.adapters.table.guarded import Guarded, perform
from bg_ingest.adapters.table.protocol import (
    Condition,
    ConditionFailed,
    Either,
    Equals,
    Exists,
    Item,
    Missing,
    Put,
    Table,
    Update,
)
from bg_ingest.adapters.table.records import FREE, OURS, VERSION, epoch_ms, is_newer, newer
from bg_ingest.adapters.table.rings import TableRings
from bg_ingest.adapters.table.steps import REPLACEABLE, step_writes
from bg_ingest.domain.commits import Step
from bg_ingest.domain.connections import Connection, Listed
from bg_ingest.domain.grants import Grant
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.errors import Fenced, Outdated
from bg_ingest.ports import Clock

DIRECTORY_PAGE = 1000
"""Rows of 44 bytes each: a start reads all there are, and each page is a turn of the store's thread or a call."""


class TableConnections:
    def __init__(self, table: Table, clock: Clock, rings: TableRings) -> None:
        self._table = table
        self._clock = clock
        self._rings = rings

    async def get(self, connection: ConnectionId) -> Connection | None:
        return self._current(connection, await self._table.get(keys.connection(connection)))

    async def with_grant(self, connection: ConnectionId) -> tuple[Connection | None, Grant | None]:
        row, grant = keys.connection(connection), keys.grant(connection)
        found = await self._table.batch_get([row, grant])
        granted = grant_of(connection, found[grant]) if grant in found else None
        return self._current(connection, found.get(row)), granted

    async def of_user(self, user: UserId) -> list[Connection]:
        low, high = keys.CONNECTIONS, keys.beyond(keys.CONNECTIONS)
        async with aclosing(self._table.query(keys.user_pk(user), low, high)) as pages:
            rows = [row async for page in pages for row in page]
        found = [self._current(keys.parse_connection(user, key), each) for key, each in rows]
        return [each for each in found if each]

    async def several(self, connections: Collection[ConnectionId]) -> list[Connection]:
        wanted = {keys.connection(each): each for each in connections}
        rows = await self._table.batch_get(wanted.keys())
        found = (self._current(wanted[key], row) for key, row in rows.items())
        return [each for each in found if each]

    async def listed(self, shard: int) -> AsyncGenerator[Listed]:
        low, high = keys.CONNECTIONS, keys.beyond(keys.CONNECTIONS)
        async with aclosing(self._table.query(keys.directory_pk(shard), low, high, page=DIRECTORY_PAGE)) as pages:
            async for page in pages:
                for key, found in page:
                    yield listed_of(keys.parse_directory(key), found)

    async def begin(self, connection: Connection) -> None:
        row = Put(keys.connection(connection.id), connection_item(connection), (REPLACEABLE, FREE))
        try:
            await self._table.write(row)
        except ConditionFailed as failed:
            if is_newer(failed.met[0]):
                raise newer() from None

    async def note(self, before: Connection, after: Connection, *, look: bool = False) -> None:
        writes = list(step_writes(Step(before, after)))
        if look:
            writes.append(Guarded(await self._rings.look(after.id), Fenced))
        await perform(self._table, writes)

    async def user_of(self, provider: str, region: str, provider_account: str) -> UserId | None:
        found = await self._table.get(keys.account(provider, region, provider_account))
        return UserId(str(found["user"])) if found else None

    async def claim_grant(self, seen: Grant, claim: str) -> None:
        conditions = (*_version(seen, seen.version), _claimed(seen.claim))
        await self._write(Update(keys.grant(seen.id), {"claim": claim}, (), conditions))

    async def store_grant(self, grant: Grant) -> None:
        unclaimed = grant_item(msgspec.structs.replace(grant, claim=None))
        try:
            await self._table.write(Put(keys.grant(grant.id), unclaimed, _version(grant, grant.version - 1)))
        except ConditionFailed:
            await self._write(_note_refusals(grant))

    async def _write(self, one: Update) -> None:
        await perform(self._table, [Guarded(one, Outdated)])

    def _current(self, connection: ConnectionId, found: Item | None) -> Connection | None:
        if found is None:
            return None
        current = connection_of(connection, found)
        abandoned = current.expires_at is not None and current.expires_at <= self._clock.now()
        return None if abandoned else current


def _note_refusals(grant: Grant) -> Update:
    """Write what came of sending this version's refresh token, and end the claim.

    Held to the same tokens, so that of two who refreshed at once the second learns that its own were not stored; and
    to the claim the writer has, so that nobody ends another's. One that is gone already was this write's first try.
    """
    retry_at = epoch_ms(grant.retry_at)
    known: Item = {"refusals": grant.refusals, "v": VERSION}
    claim = Missing("claim") if grant.claim is None else Either((Missing("claim"), Equals("claim", grant.claim)))
    return Update(
        keys.grant(grant.id),
        known if retry_at is None else known | {"retry_at": retry_at},
        ("claim",) if retry_at is not None else ("claim", "retry_at"),
        (*_version(grant, grant.version), Equals("sealed", grant.sealed), claim),
    )


def _version(grant: Grant, version: int) -> tuple[Condition, ...]:
    return Exists(), OURS, Equals("version", version), Equals("generation", grant.generation)


def _claimed(claim: str | None) -> Condition:
    return Missing("claim") if claim is None else Equals("claim", claim)
