"""Connections, and the rows that find them: in the directory of their shard, and by provider account.

Each field is an attribute of its own, because the conditions of a write name the fields that it changes.
"""

from collections.abc import AsyncGenerator, Collection, Iterable, Iterator
from contextlib import aclosing
from datetime import UTC, datetime

from bg_ingest.domain.commits import Commit, ConnectionUpdate
from bg_ingest.domain.connections import Connection, ConnectionState, DirectoryRow, WorkerSettings
from bg_ingest.domain.grants import Grant
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.segment_codec import to_epoch_ms, to_epoch_seconds
from bg_ingest.errors import Fenced
from bg_ingest.ports import Clock
from bg_ingest.ports.table import (
    Absent,
    AtMost,
    Check,
    Delete,
    Either,
    Equals,
    Item,
    Key,
    OneOf,
    Put,
    StoredItem,
    Table,
    Write,
)
from bg_ingest.store import keys
from bg_ingest.store.grants import decode_grant
from bg_ingest.store.inbox import InboxStore
from bg_ingest.store.items import (
    VERSION_OK_OR_ABSENT,
    ConditionalWrite,
    build_item,
    diff_items,
    from_epoch_ms,
    optional_epoch_ms,
    optional_instant,
    optional_window,
    read_range,
    try_write,
    unchanged_condition,
    update_existing,
    write_all,
)

STATES_WITH_GRANT = frozenset(ConnectionState) - {ConnectionState.CONNECTING, ConnectionState.DISCONNECTED}
"""States with a directory row and a row of the provider account."""

PUSHABLE_STATES = (str(ConnectionState.ACTIVE), str(ConnectionState.PAUSED))
"""States in which pushed readings are stored."""

DIRECTORY_BATCH_SIZE = 1000
"""Rows of 44 bytes each. A start reads all rows, and each page costs one call of the store."""


class ConnectionStore:
    """Connections, and the directory that lists them by shard. An expired connect reads as absent."""

    def __init__(self, table: Table, clock: Clock, inbox: InboxStore) -> None:
        self._table = table
        self._clock = clock
        self._inbox = inbox

    async def get(self, connection: ConnectionId) -> Connection | None:
        return self.decode_unexpired(connection, await self._table.get(keys.connection(connection)))

    async def get_with_grant(self, connection: ConnectionId) -> tuple[Connection | None, Grant | None]:
        """Return the connection and its grant in one read."""
        row, grant = keys.connection(connection), keys.grant(connection)
        items = await self._table.batch_get([row, grant])
        granted = decode_grant(connection, items[grant]) if grant in items else None
        return self.decode_unexpired(connection, items.get(row)), granted

    async def list_for_user(self, user: UserId) -> list[Connection]:
        rows = await read_range(self._table, keys.user_pk(user), *keys.prefix_range(keys.CONNECTIONS))
        return self._decode_all((keys.parse_connection(user, key), item) for key, item in rows)

    async def get_many(self, connections: Collection[ConnectionId]) -> list[Connection]:
        """Return the existing connections in as few reads as possible."""
        by_key = {keys.connection(identity): identity for identity in connections}
        items = await self._table.batch_get(by_key)
        return self._decode_all((by_key[key], item) for key, item in items.items())

    async def iter_directory(self, shard: int) -> AsyncGenerator[DirectoryRow]:
        """Yield the directory rows of a shard: all connections with a grant."""
        low, high = keys.prefix_range(keys.CONNECTIONS)
        async with aclosing(self._table.query(keys.directory_pk(shard), low, high, page=DIRECTORY_BATCH_SIZE)) as pages:
            async for page in pages:
                for key, item in page:
                    yield DirectoryRow(keys.parse_directory(key), item.get("poll_interval_seconds"), item["paused"])

    async def add_connecting(self, connection: Connection) -> None:
        """Write a connecting connection that expires; an existing connection in another state stays unchanged."""
        await try_write(self._table, _first_write(connection))

    async def update(self, before: Connection, after: Connection, *, request_poll: bool = False) -> None:
        """Write settings, outcome and progress without an event. Fenced if a condition fails, as in a commit.

        With ``request_poll`` the owner of the connection gets a poll request in the same transaction.
        """
        writes = [*_update_writes(ConnectionUpdate(before, after))]
        if request_poll:
            writes.append(ConditionalWrite(await self._inbox.poll_request(after.id), Fenced))
        await write_all(self._table, writes)

    async def find_user(self, provider: str, region: str, provider_account: str) -> UserId | None:
        """Return the user that is connected to a provider account."""
        item = await self._table.get(keys.account(provider, region, provider_account))
        return UserId(str(item["user"])) if item else None

    def _decode_all(self, rows: Iterable[tuple[ConnectionId, StoredItem]]) -> list[Connection]:
        return [connection for row in rows if (connection := self.decode_unexpired(*row))]

    def decode_unexpired(self, connection: ConnectionId, item: StoredItem | None) -> Connection | None:
        is_expired = item is not None and "expires_at" in item and item["expires_at"] <= self._clock.now().timestamp()
        return None if item is None or is_expired else decode_connection(connection, item)


def encode_connection(connection: Connection) -> Item:
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
        watermark=optional_epoch_ms(c.watermark),
        available_from=to_epoch_ms(c.available.start) if c.available else None,
        available_until=optional_epoch_ms(c.available.end) if c.available else None,
        backfill_from=optional_epoch_ms(c.backfill.start) if c.backfill else None,
        backfill_until=optional_epoch_ms(c.backfill.end) if c.backfill else None,
        swept_at=optional_epoch_ms(c.swept_at),
        repair_at=optional_epoch_ms(c.repair_at),
        lacks_until=optional_epoch_ms(c.suspected_gap_at),
        newest_reading_at=optional_epoch_ms(c.newest_reading_at),
        cadence_seconds=c.cadence_seconds,
        delay_seconds=c.delay_seconds,
        last_outcome=c.last_outcome,
        outcome_at=optional_epoch_ms(c.outcome_at),
        epoch=c.epoch,
        expires_at=None if c.expires_at is None else to_epoch_seconds(c.expires_at),
    )


def decode_connection(identity: ConnectionId, item: StoredItem) -> Connection:
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
        watermark=optional_instant(item.get("watermark")),
        available=optional_window(item.get("available_from"), item.get("available_until")),
        backfill=optional_window(item.get("backfill_from"), item.get("backfill_until")),
        swept_at=optional_instant(item.get("swept_at")),
        repair_at=optional_instant(item.get("repair_at")),
        suspected_gap_at=optional_instant(item.get("lacks_until")),
        newest_reading_at=optional_instant(item.get("newest_reading_at")),
        cadence_seconds=item.get("cadence_seconds"),
        delay_seconds=item.get("delay_seconds"),
        last_outcome=item.get("last_outcome"),
        outcome_at=optional_instant(item.get("outcome_at")),
        epoch=item["epoch"],
        expires_at=datetime.fromtimestamp(item["expires_at"], UTC) if "expires_at" in item else None,
    )


def encode_directory_row(connection: Connection | None) -> Item | None:
    """Return the directory row, or None in a state without one."""
    if connection is None or connection.state not in STATES_WITH_GRANT:
        return None
    paused = connection.worker.paused or connection.state == ConnectionState.PAUSED
    return build_item(poll_interval_seconds=connection.worker.poll_interval_seconds, paused=paused)


def commit_writes(commit: Commit) -> Iterator[ConditionalWrite]:
    return _update_writes(commit.connection_update) if commit.connection_update else iter(())


def _update_writes(update: ConnectionUpdate) -> Iterator[ConditionalWrite]:
    """Yield the writes of a changed connection, of its directory row and of the rows of its provider account."""
    for write in (_connection_write(update), *_directory_writes(update), *_account_writes(update)):
        yield ConditionalWrite(write, Fenced)


def _connection_write(update: ConnectionUpdate) -> Write:
    if update.before is None:
        return _first_write(update.after)
    key = keys.connection(update.after.id)
    before, after = encode_connection(update.before), encode_connection(update.after)
    if before == after:
        return _check_unchanged(key, update.before)
    changed, removed = diff_items(before, after)
    conditional_names = dict.fromkeys(("state", "generation", *changed, *removed))
    if update.before.backfill != update.after.backfill:  # two writes, each of one end, could leave an empty window
        conditional_names |= dict.fromkeys(("backfill_from", "backfill_until"))
    unchanged = (unchanged_condition(before, name) for name in conditional_names)
    return update_existing(key, changed, (AtMost("epoch", update.after.epoch), *unchanged), removed)


def _first_write(connection: Connection) -> Put:
    """Return the write of a connection that was read as absent. An expired connect is also read as absent."""
    replaceable = Either((Absent(), Equals("state", str(ConnectionState.CONNECTING))))
    return Put(keys.connection(connection.id), encode_connection(connection), (replaceable, VERSION_OK_OR_ABSENT))


def _check_unchanged(key: Key, connection: Connection) -> Check:
    """Return the check if no field changes, as in a push. A pause or new owner since the read does not matter."""
    states = PUSHABLE_STATES if connection.state in PUSHABLE_STATES else (str(connection.state),)
    return Check(key, (OneOf("state", states), Equals("generation", connection.generation)))


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
