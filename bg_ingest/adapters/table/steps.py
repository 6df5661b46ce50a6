"""A connection's step as writes: the connection, its line in the directory, and who holds its provider account."""

from collections.abc import Iterator

from bg_ingest.adapters.table import keys
from bg_ingest.adapters.table.connection_records import WITH_GRANT, connection_item, listed_item
from bg_ingest.adapters.table.guarded import Guarded, as_read, difference
from bg_ingest.adapters.table.protocol import (
    Absent,
    AtMost,
    Check,
    Delete,
    Either,
    Equals,
    Exists,
    Key,
    OneOf,
    Put,
    Update,
    Write,
)
from bg_ingest.adapters.table.records import FREE, OURS, VERSION, item
from bg_ingest.domain.commits import Step
from bg_ingest.domain.connections import Connection, State
from bg_ingest.errors import Fenced

REPLACEABLE = Either((Absent(), Equals("state", str(State.CONNECTING))))
"""The condition of a connection row where none was read: an expired connect reads as none."""

PUSHED = (str(State.ACTIVE), str(State.PAUSED))
"""The states in which readings that are pushed to us are kept."""


def step_writes(step: Step) -> Iterator[Guarded]:
    """Yield the step's writes; any that fails means Fenced."""
    for write in (_connection(step), _directory(step), *_account(step)):
        if write is not None:
            yield Guarded(write, Fenced)


def _connection(step: Step) -> Write:
    key = keys.connection(step.after.id)
    after = connection_item(step.after)
    if step.before is None:
        return Put(key, after, (REPLACEABLE, FREE))
    before = connection_item(step.before)
    if before == after:
        return _unchanged(key, step.before)
    changed, removed = difference(before, after)
    held = dict.fromkeys(("state", "generation", *changed, *removed))
    if step.before.backfill != step.after.backfill:  # of two who each move an end, one would leave no window
        held |= dict.fromkeys(("backfill_from", "backfill_until"))
    conditions = (Exists(), OURS, AtMost("epoch", step.after.epoch), *(as_read(before, name) for name in held))
    return Update(key, changed | {"v": VERSION}, removed, conditions)


def _unchanged(key: Key, connection: Connection) -> Check:
    """Whoever only stores, as a push does, is stopped by neither a pause in between nor another owner."""
    state = OneOf("state", PUSHED) if connection.state in PUSHED else Equals("state", str(connection.state))
    return Check(key, (state, Equals("generation", connection.generation)))


def _directory(step: Step) -> Write | None:
    before, after = listed_item(step.before), listed_item(step.after)
    if before == after:
        return None
    key = keys.directory(step.after.id)
    return Delete(key) if after is None else Put(key, after, (FREE,))


def _account(step: Step) -> Iterator[Write]:
    before, after = _held(step.before), _held(step.after)
    if before == after:
        return
    user = step.after.id.user
    nobody_elses = (Either((Absent(), Equals("user", user))), FREE)
    if after:
        yield Put(after, item(user=user), nobody_elses)
    if before:
        yield Delete(before, nobody_elses)


def _held(connection: Connection | None) -> Key | None:
    return keys.account_of(connection) if connection and connection.state in WITH_GRANT else None
