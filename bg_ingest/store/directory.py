"""Rows that find a connection: in the directory of its shard, and by its provider account."""

from collections.abc import Iterator

from bg_ingest.domain.commits import Commit, ConnectionUpdate
from bg_ingest.domain.connections import Connection, ConnectionState, DirectoryRow
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.errors import Fenced
from bg_ingest.ports.table import Absent, Delete, Either, Equals, Item, Key, Put, Write
from bg_ingest.store import keys
from bg_ingest.store.conditional import ConditionalWrite
from bg_ingest.store.items import VERSION_OK_OR_ABSENT, StoredItem, build_item

STATES_WITH_GRANT = frozenset(
    {
        ConnectionState.ACTIVE,
        ConnectionState.PAUSED,
        ConnectionState.REAUTHORIZATION_REQUIRED,
        ConnectionState.PROVIDER_FORBIDDEN,
    }
)
"""States with a directory row and a row of the provider account."""


def encode_directory_row(connection: Connection | None) -> Item | None:
    """Return the directory row, or None in a state without one."""
    if connection is None or connection.state not in STATES_WITH_GRANT:
        return None
    paused = connection.worker.paused or connection.state == ConnectionState.PAUSED
    return build_item(poll_interval_seconds=connection.worker.poll_interval_seconds, paused=paused)


def decode_directory_row(identity: ConnectionId, item: StoredItem) -> DirectoryRow:
    return DirectoryRow(identity, item.get("poll_interval_seconds"), item["paused"])


def writes(commit: Commit) -> Iterator[ConditionalWrite]:
    if commit.connection_update is not None:
        yield from (ConditionalWrite(write, Fenced) for write in update_writes(commit.connection_update))


def update_writes(update: ConnectionUpdate) -> Iterator[Write]:
    """Yield the writes of both rows that a changed connection requires."""
    yield from _directory_writes(update)
    yield from _account_writes(update)


def _directory_writes(update: ConnectionUpdate) -> Iterator[Write]:
    before, after = encode_directory_row(update.before), encode_directory_row(update.after)
    if before != after:
        key = keys.directory(update.after.id)
        yield Delete(key) if after is None else Put(key, after, (VERSION_OK_OR_ABSENT,))


def _account_writes(update: ConnectionUpdate) -> Iterator[Write]:
    before, after = _account_key(update.before), _account_key(update.after)
    if before == after:
        return
    user = update.after.id.user
    free_or_own = (Either((Absent(), Equals("user", user))), VERSION_OK_OR_ABSENT)
    if after:
        yield Put(after, build_item(user=user), free_or_own)
    if before:
        yield Delete(before, free_or_own)


def _account_key(connection: Connection | None) -> Key | None:
    return keys.connection_account(connection) if connection and connection.state in STATES_WITH_GRANT else None
