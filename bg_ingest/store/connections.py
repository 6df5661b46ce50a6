"""Connections, their rows in the directory of the shard, and the rows that map a provider account to its user.

The row of a connection does not contain its progress: polls write the progress into the head of the user (``head.py``).
Every other field is an attribute of its own, because a write has a condition on each field that it changes.
"""

from collections.abc import AsyncGenerator, Collection, Iterable, Iterator, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from typing import NamedTuple

from bg_ingest.domain.commits import Commit, ConnectionUpdate
from bg_ingest.domain.connections import STATES_WITH_GRANT, Connection, ConnectionState, DirectoryRow, WorkerSettings
from bg_ingest.domain.grants import Grant
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.segment_codec import to_epoch_ms, to_epoch_seconds
from bg_ingest.errors import Fenced
from bg_ingest.ports import Clock
from bg_ingest.ports.table import (
    Absent,
    Delete,
    Either,
    Equals,
    Item,
    Key,
    Put,
    StoredItem,
    Table,
    Write,
)
from bg_ingest.store import keys
from bg_ingest.store.grants import decode_grant
from bg_ingest.store.head import decode_progress, progress_write
from bg_ingest.store.inbox import InboxStore
from bg_ingest.store.items import (
    VERSION_OK_OR_ABSENT,
    ConditionalWrite,
    build_item,
    diff_items,
    from_epoch_ms,
    optional_epoch_ms,
    optional_window,
    read_range,
    try_write,
    unchanged_condition,
    update_existing,
    write_all,
)
from bg_ingest.store.segments import SeriesRead, decode_series

DIRECTORY_BATCH_SIZE = 1000
"""Rows per page, 44 bytes each. A start of the service reads all rows, and each page costs one call of the store."""


class PollRead(NamedTuple):
    """Items that a poll reads. ``series`` is None if no segments were requested."""

    connection: Connection | None
    grant: Grant | None
    series: SeriesRead | None


class ConnectionStore:
    """Connections, and the directory that lists them by shard. An expired connect reads as absent."""

    def __init__(self, table: Table, clock: Clock, inbox: InboxStore) -> None:
        self._table = table
        self._clock = clock
        self._inbox = inbox

    async def get(self, connection: ConnectionId) -> Connection | None:
        return next(iter(await self.get_many([connection])), None)

    async def get_with_grant(self, connection: ConnectionId) -> tuple[Connection | None, Grant | None]:
        """Return the connection and its grant in one read."""
        read = await self.get_for_poll(connection, ())
        return read.connection, read.grant

    async def get_for_poll(self, connection: ConnectionId, segments: Collection[datetime]) -> PollRead:
        """Return the connection, its grant, and the segments of the user by start, in one read."""
        grant, starts = keys.grant(connection), {keys.segment(connection.user, start): start for start in segments}
        items = await self._table.batch_get([*row_keys([connection]), grant, *starts])
        return PollRead(
            self.decode_unexpired(connection, items),
            decode_grant(connection, items[grant]) if grant in items else None,
            decode_series(connection.user, starts, items) if starts else None,
        )

    async def list_for_user(self, user: UserId) -> list[Connection]:
        rows = await read_range(self._table, keys.user_pk(user), *keys.prefix_range(keys.CONNECTIONS))
        if not rows:
            return []
        items = dict(rows) | await self._table.batch_get([keys.head(user)])
        return self._decode_all((keys.parse_connection(user, key) for key, _ in rows), items)

    async def get_many(self, connections: Collection[ConnectionId]) -> list[Connection]:
        """Return the existing connections, in the given order and in as few reads as possible."""
        return self._decode_all(connections, await self._table.batch_get(row_keys(connections)))

    async def iter_directory(self, shard: int) -> AsyncGenerator[DirectoryRow]:
        """Yield the directory rows of a shard: all connections with a grant."""
        low, high = keys.prefix_range(keys.CONNECTIONS)
        async with aclosing(self._table.query(keys.directory_pk(shard), low, high, page=DIRECTORY_BATCH_SIZE)) as pages:
            async for page in pages:
                for key, item in page:
                    yield decode_directory_row(key, item)

    async def add_connecting(self, connection: Connection) -> None:
        """Write a connection in the state connecting. An existing connection in another state stays unchanged."""
        await try_write(self._table, _first_write(connection))

    async def update(self, before: Connection, after: Connection, *, request_poll: bool = False) -> None:
        """Write settings, outcome and progress without an event. Fenced if a condition fails, as in a commit.

        With ``request_poll`` the owner of the connection gets a poll request in the same transaction.
        """
        update = ConnectionUpdate(before, after)
        writes = [*_update_writes(update), *progress_write(update)]
        if request_poll:
            writes.append(ConditionalWrite(await self._inbox.poll_request(after.id), Fenced))
        await write_all(self._table, writes)

    async def find_user(self, provider: str, region: str, provider_account: str) -> UserId | None:
        """Return the user that is connected to a provider account."""
        item = await self._table.get(keys.account(provider, region, provider_account))
        return UserId(str(item["user"])) if item else None

    def _decode_all(self, connections: Iterable[ConnectionId], items: Mapping[Key, StoredItem]) -> list[Connection]:
        return [found for identity in connections if (found := self.decode_unexpired(identity, items))]

    def decode_unexpired(self, connection: ConnectionId, items: Mapping[Key, StoredItem]) -> Connection | None:
        """Return a connection from the items of ``row_keys``."""
        row = items.get(keys.connection(connection))
        is_expired = row is not None and "expires_at" in row and row["expires_at"] <= self._clock.now().timestamp()
        if row is None or is_expired:
            return None
        return decode_connection(connection, row, items.get(keys.head(connection.user)))


def row_keys(connections: Iterable[ConnectionId]) -> list[Key]:
    """Return the keys of the items that hold connections, without repetition."""
    pairs = ((keys.connection(identity), keys.head(identity.user)) for identity in connections)
    return list(dict.fromkeys(key for pair in pairs for key in pair))


def encode_connection(connection: Connection) -> Item:
    """Return the row of a connection: everything but the progress."""
    c = connection
    return build_item(
        state=str(c.state),
        generation=c.generation,
        region=c.region,
        app=c.app,
        connected_at=to_epoch_ms(c.connected_at),
        reason=c.reason,
        provider_account=c.provider_account,
        host_region=c.host_region,
        poll_interval_seconds=c.worker.poll_interval_seconds,
        paused=c.worker.paused,
        backfill_days=c.worker.backfill_days,
        available_from=to_epoch_ms(c.available.start) if c.available else None,
        available_until=optional_epoch_ms(c.available.end) if c.available else None,
        expires_at=None if c.expires_at is None else to_epoch_seconds(c.expires_at),
    )


def decode_connection(identity: ConnectionId, item: StoredItem, head: StoredItem | None) -> Connection:
    """Return a connection from its row and its user's head. An unfinished connect has no progress."""
    return Connection(
        id=identity,
        state=ConnectionState(item["state"]),
        generation=item["generation"],
        region=item["region"],
        app=item["app"],
        connected_at=from_epoch_ms(item["connected_at"]),
        reason=item.get("reason"),
        provider_account=item.get("provider_account"),
        host_region=item.get("host_region"),
        worker=WorkerSettings(item.get("poll_interval_seconds"), item["paused"], item.get("backfill_days")),
        available=optional_window(item.get("available_from"), item.get("available_until")),
        expires_at=datetime.fromtimestamp(item["expires_at"], UTC) if "expires_at" in item else None,
        **decode_progress(identity.provider, head or {}),
    )


def encode_directory_row(connection: Connection | None) -> Item | None:
    """Return the directory row, or None in a state without one."""
    if connection is None or connection.state not in STATES_WITH_GRANT:
        return None
    paused = connection.worker.paused or connection.state == ConnectionState.PAUSED
    return build_item(poll_interval_seconds=connection.worker.poll_interval_seconds, paused=paused)


def decode_directory_row(key: Key, item: StoredItem) -> DirectoryRow:
    return DirectoryRow(keys.parse_directory(key), item.get("poll_interval_seconds"), item["paused"])


def commit_writes(commit: Commit) -> Iterator[ConditionalWrite]:
    return _update_writes(commit.connection_update) if commit.connection_update else iter(())


def _update_writes(update: ConnectionUpdate) -> Iterator[ConditionalWrite]:
    """Yield the writes of a changed row, of its directory row and of the rows of its provider account."""
    for write in (*_row_writes(update), *_directory_writes(update), *_account_writes(update)):
        yield ConditionalWrite(write, Fenced)


def _row_writes(update: ConnectionUpdate) -> Iterator[Write]:
    if update.before is None:
        yield _first_write(update.after)
        return
    before, after = encode_connection(update.before), encode_connection(update.after)
    changed, removed = diff_items(before, after)
    if changed or removed:
        conditional_names = dict.fromkeys(("state", "generation", *changed, *removed))
        unchanged = (unchanged_condition(before, name) for name in conditional_names)
        yield update_existing(keys.connection(update.after.id), changed, unchanged, removed)


def _first_write(connection: Connection) -> Put:
    """Return the write of a connection that was read as absent. An expired connect is also read as absent."""
    replaceable = Either((Absent(), Equals("state", str(ConnectionState.CONNECTING))))
    return Put(keys.connection(connection.id), encode_connection(connection), (replaceable, VERSION_OK_OR_ABSENT))


def _directory_writes(update: ConnectionUpdate) -> Iterator[Write]:
    before, after = encode_directory_row(update.before), encode_directory_row(update.after)
    if before != after:
        key = keys.directory(update.after.id)
        yield Delete(key) if after is None else Put(key, after, (VERSION_OK_OR_ABSENT,))


def _account_writes(update: ConnectionUpdate) -> Iterator[Write]:
    before, after = _account_key(update.before), _account_key(update.after)
    if before == after:
        return
    free_or_own = (Either((Absent(), Equals("user", update.after.id.user))), VERSION_OK_OR_ABSENT)
    if after:
        yield Put(after, build_item(user=update.after.id.user), free_or_own)
    if before:
        yield Delete(before, free_or_own)


def _account_key(connection: Connection | None) -> Key | None:
    return keys.connection_account(connection) if connection and connection.state in STATES_WITH_GRANT else None
