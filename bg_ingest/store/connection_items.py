"""Items of connections: the connection, its grant, its line in the directory.

Plain attributes, so that a write can hold on to each as it was read.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

from bg_ingest.domain.commits import ConnectionUpdate
from bg_ingest.domain.connections import Connection, ConnectionState, DirectoryRow, WorkerSettings
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.segment_codec import to_epoch_ms, to_epoch_seconds
from bg_ingest.domain.windows import Window
from bg_ingest.errors import Fenced
from bg_ingest.ports.table import (
    Absent,
    AtMost,
    Check,
    Delete,
    Either,
    Equals,
    Exists,
    Item,
    Key,
    OneOf,
    Put,
    Update,
    Write,
)
from bg_ingest.store import keys
from bg_ingest.store.conditional import ConditionalWrite, diff_items, unchanged_condition
from bg_ingest.store.items import (
    VERSION,
    VERSION_OK,
    VERSION_OK_OR_ABSENT,
    StoredItem,
    build_item,
    optional_epoch_ms,
    optional_instant,
)

STATES_WITH_GRANT = frozenset(
    {
        ConnectionState.ACTIVE,
        ConnectionState.PAUSED,
        ConnectionState.REAUTHORIZATION_REQUIRED,
        ConnectionState.PROVIDER_FORBIDDEN,
    }
)
"""The states that are listed in the directory and hold their provider account."""


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
        poll_interval_seconds=c.worker.poll_interval_seconds,
        paused=c.worker.paused,
        backfill_days=c.worker.backfill_days,
        watermark=optional_epoch_ms(c.watermark),
        available_from=optional_epoch_ms(c.available.start) if c.available else None,
        available_until=optional_epoch_ms(c.available.end) if c.available else None,
        backfill_from=optional_epoch_ms(c.backfill.start) if c.backfill else None,
        backfill_until=optional_epoch_ms(c.backfill.end) if c.backfill else None,
        swept_at=optional_epoch_ms(c.swept_at),
        repair_at=optional_epoch_ms(c.repair_at),
        lacks_until=optional_epoch_ms(c.suspected_gap_at),
        newest_reading_at=optional_epoch_ms(c.newest_reading_at),
        cadence_seconds=c.cadence_seconds,
        last_outcome=c.last_outcome,
        outcome_at=optional_epoch_ms(c.outcome_at),
        epoch=c.epoch,
        expires_at=None if c.expires_at is None else to_epoch_seconds(c.expires_at),
    )


def decode_connection(identity: ConnectionId, found: StoredItem) -> Connection:
    expires_at = found.get("expires_at")
    return Connection(
        id=identity,
        state=ConnectionState(found["state"]),
        generation=found["generation"],
        region=found["region"],
        app=found["app"],
        connected_at=datetime.fromtimestamp(found["connected_at"] / 1000, UTC),
        reason=found.get("reason"),
        provider_account=found.get("provider_account"),
        worker=WorkerSettings(found.get("poll_interval_seconds"), found["paused"], found.get("backfill_days")),
        watermark=optional_instant(found.get("watermark")),
        available=_optional_window(found.get("available_from"), found.get("available_until")),
        backfill=_optional_window(found.get("backfill_from"), found.get("backfill_until")),
        swept_at=optional_instant(found.get("swept_at")),
        repair_at=optional_instant(found.get("repair_at")),
        suspected_gap_at=optional_instant(found.get("lacks_until")),
        newest_reading_at=optional_instant(found.get("newest_reading_at")),
        cadence_seconds=found.get("cadence_seconds"),
        last_outcome=found.get("last_outcome"),
        outcome_at=optional_instant(found.get("outcome_at")),
        epoch=found["epoch"],
        expires_at=None if expires_at is None else datetime.fromtimestamp(expires_at, UTC),
    )


def encode_directory_row(connection: Connection | None) -> Item | None:
    """Return the connection's directory row, or None where it has none."""
    if connection is None or connection.state not in STATES_WITH_GRANT:
        return None
    paused = connection.worker.paused or connection.state == ConnectionState.PAUSED
    return build_item(poll_interval_seconds=connection.worker.poll_interval_seconds, paused=paused)


def decode_directory_row(identity: ConnectionId, found: StoredItem) -> DirectoryRow:
    return DirectoryRow(identity, found.get("poll_interval_seconds"), found["paused"])


def _optional_window(start: int | None, end: int | None) -> Window | None:
    first, last = optional_instant(start), optional_instant(end)
    return Window(first, last) if first and last else None


REPLACEABLE_CONNECTION = Either((Absent(), Equals("state", str(ConnectionState.CONNECTING))))
"""The condition of a connection row where none was read: an expired connect reads as none."""

PUSHABLE_STATES = (str(ConnectionState.ACTIVE), str(ConnectionState.PAUSED))
"""The states in which readings that are pushed to us are kept."""


def connection_writes(update: ConnectionUpdate) -> Iterator[ConditionalWrite]:
    """Yield the step's writes; any that fails means Fenced."""
    for write in (_connection_write(update), _directory_write(update), *_account_writes(update)):
        if write is not None:
            yield ConditionalWrite(write, Fenced)


def _connection_write(update: ConnectionUpdate) -> Write:
    key = keys.connection(update.after.id)
    after = encode_connection(update.after)
    if update.before is None:
        return Put(key, after, (REPLACEABLE_CONNECTION, VERSION_OK_OR_ABSENT))
    before = encode_connection(update.before)
    if before == after:
        return _check_unchanged(key, update.before)
    changed, removed = diff_items(before, after)
    conditional_names = dict.fromkeys(("state", "generation", *changed, *removed))
    if update.before.backfill != update.after.backfill:  # of two who each move an end, one would leave no window
        conditional_names |= dict.fromkeys(("backfill_from", "backfill_until"))
    conditions = (
        Exists(),
        VERSION_OK,
        AtMost("epoch", update.after.epoch),
        *(unchanged_condition(before, name) for name in conditional_names),
    )
    return Update(key, changed | {"v": VERSION}, removed, conditions)


def _check_unchanged(key: Key, connection: Connection) -> Check:
    """Whoever only stores, as a push does, is stopped by neither a pause in between nor another owner."""
    state = (
        OneOf("state", PUSHABLE_STATES)
        if connection.state in PUSHABLE_STATES
        else Equals("state", str(connection.state))
    )
    return Check(key, (state, Equals("generation", connection.generation)))


def _directory_write(update: ConnectionUpdate) -> Write | None:
    before, after = encode_directory_row(update.before), encode_directory_row(update.after)
    if before == after:
        return None
    key = keys.directory(update.after.id)
    return Delete(key) if after is None else Put(key, after, (VERSION_OK_OR_ABSENT,))


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
