"""The port Connections over a table."""

from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing

import msgspec

from bg_ingest.domain.commits import ConnectionUpdate
from bg_ingest.domain.connections import Connection, DirectoryRow
from bg_ingest.domain.grants import Grant
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.errors import Fenced, StaleRead
from bg_ingest.ports import Clock
from bg_ingest.ports.table import (
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
from bg_ingest.store import keys
from bg_ingest.store.conditional import ConditionalWrite, write_all
from bg_ingest.store.connection_items import (
    REPLACEABLE_CONNECTION,
    connection_writes,
    decode_connection,
    decode_directory_row,
    encode_connection,
)
from bg_ingest.store.grants import decode_grant, encode_grant
from bg_ingest.store.inbox import InboxStore
from bg_ingest.store.items import (
    VERSION,
    VERSION_OK,
    VERSION_OK_OR_ABSENT,
    is_newer,
    newer_version_error,
    optional_epoch_ms,
)

DIRECTORY_BATCH_SIZE = 1000
"""Rows of 44 bytes each: a start reads all there are, and each page is a turn of the store's thread or a call."""


class ConnectionStore:
    """Connections, their grants, and the directory that lists them by shard."""

    def __init__(self, table: Table, clock: Clock, inbox: InboxStore) -> None:
        self._table = table
        self._clock = clock
        self._inbox = inbox

    async def get(self, connection: ConnectionId) -> Connection | None:
        return self._decode_unexpired(connection, await self._table.get(keys.connection(connection)))

    async def get_with_grant(self, connection: ConnectionId) -> tuple[Connection | None, Grant | None]:
        """Return both in one read."""
        row, grant = keys.connection(connection), keys.grant(connection)
        found = await self._table.batch_get([row, grant])
        granted = decode_grant(connection, found[grant]) if grant in found else None
        return self._decode_unexpired(connection, found.get(row)), granted

    async def list_for_user(self, user: UserId) -> list[Connection]:
        low, high = keys.CONNECTIONS, keys.prefix_end(keys.CONNECTIONS)
        async with aclosing(self._table.query(keys.user_pk(user), low, high)) as pages:
            rows = [row async for page in pages for row in page]
        found = [self._decode_unexpired(keys.parse_connection(user, key), each) for key, each in rows]
        return [each for each in found if each]

    async def get_many(self, connections: Collection[ConnectionId]) -> list[Connection]:
        """Return those that exist, in as few reads as can be."""
        by_key = {keys.connection(each): each for each in connections}
        rows = await self._table.batch_get(by_key.keys())
        found = (self._decode_unexpired(by_key[key], row) for key, row in rows.items())
        return [each for each in found if each]

    async def iter_directory(self, shard: int) -> AsyncGenerator[DirectoryRow]:
        """Yield a shard's directory: every connection that has a grant."""
        low, high = keys.CONNECTIONS, keys.prefix_end(keys.CONNECTIONS)
        async with aclosing(self._table.query(keys.directory_pk(shard), low, high, page=DIRECTORY_BATCH_SIZE)) as pages:
            async for page in pages:
                for key, found in page:
                    yield decode_directory_row(keys.parse_directory(key), found)

    async def add_connecting(self, connection: Connection) -> None:
        """Keep a connecting connection until it expires; an existing one stays as it is."""
        row = Put(
            keys.connection(connection.id),
            encode_connection(connection),
            (REPLACEABLE_CONNECTION, VERSION_OK_OR_ABSENT),
        )
        try:
            await self._table.write(row)
        except ConditionFailed as failed:
            if is_newer(failed.current[0]):
                raise newer_version_error() from None

    async def update(self, before: Connection, after: Connection, *, request_poll: bool = False) -> None:
        """Write what is neither reading nor state: settings, outcome, cursor. Fenced as a commit's step is.

        With ``look``, whoever polls the connection is told to look at once.
        """
        writes = list(connection_writes(ConnectionUpdate(before, after)))
        if request_poll:
            writes.append(ConditionalWrite(await self._inbox.poll_request(after.id), Fenced))
        await write_all(self._table, writes)

    async def find_user(self, provider: str, region: str, provider_account: str) -> UserId | None:
        """Return who is connected to a provider account."""
        found = await self._table.get(keys.account(provider, region, provider_account))
        return UserId(str(found["user"])) if found else None

    async def claim(self, seen: Grant, claim: str) -> None:
        """Write the claim, on condition that version, generation and claim are as seen; else StaleRead."""
        conditions = (*_version_conditions(seen, seen.version), _claim_condition(seen.claim))
        await self._write(Update(keys.grant(seen.id), {"claim": claim}, (), conditions))

    async def store(self, grant: Grant) -> None:
        """Replace the version before this one in the same generation, whoever claims it; else StaleRead.

        With the same version and tokens as the stored one it writes refusals and retry_at, and ends the grant's claim.
        """
        unclaimed = encode_grant(msgspec.structs.replace(grant, claim=None))
        try:
            await self._table.write(Put(keys.grant(grant.id), unclaimed, _version_conditions(grant, grant.version - 1)))
        except ConditionFailed:
            await self._write(_refusals_write(grant))

    async def _write(self, one: Update) -> None:
        await write_all(self._table, [ConditionalWrite(one, StaleRead)])

    def _decode_unexpired(self, connection: ConnectionId, found: Item | None) -> Connection | None:
        if found is None:
            return None
        current = decode_connection(connection, found)
        abandoned = current.expires_at is not None and current.expires_at <= self._clock.now()
        return None if abandoned else current


def _refusals_write(grant: Grant) -> Update:
    """Write what came of sending this version's refresh token, and end the claim.

    Held to the same tokens, so that of two who refreshed at once the second learns that its own were not stored; and
    to the claim the writer has, so that nobody ends another's. One that is gone already was this write's first try.
    """
    retry_at = optional_epoch_ms(grant.retry_at)
    changed: Item = {"refusals": grant.refusals, "v": VERSION}
    claim = Missing("claim") if grant.claim is None else Either((Missing("claim"), Equals("claim", grant.claim)))
    return Update(
        keys.grant(grant.id),
        changed if retry_at is None else changed | {"retry_at": retry_at},
        ("claim",) if retry_at is not None else ("claim", "retry_at"),
        (*_version_conditions(grant, grant.version), Equals("sealed", grant.sealed), claim),
    )


def _version_conditions(grant: Grant, version: int) -> tuple[Condition, ...]:
    return Exists(), VERSION_OK, Equals("version", version), Equals("generation", grant.generation)


def _claim_condition(claim: str | None) -> Condition:
    return Missing("claim") if claim is None else Equals("claim", claim)
