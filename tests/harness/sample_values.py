"""Sample values, and short ways to store them."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

import msgspec

from bg_ingest.domain.changes import Change, connection_changed
from bg_ingest.domain.commits import (
    Commit,
    ConnectionSummary,
    ConnectionUpdate,
    Head,
    readings_commit,
    with_summary,
)
from bg_ingest.domain.connections import Connection, ConnectionState
from bg_ingest.domain.grants import Grant
from bg_ingest.domain.ids import ConnectionId, UserId, shard_of
from bg_ingest.domain.readings import Device, Flag, Origin, Reading, StoredReading
from bg_ingest.domain.segment_codec import unpack
from bg_ingest.domain.segments import decide, segment_start
from bg_ingest.domain.windows import Window
from bg_ingest.store import Store
from bg_ingest.store.segments import ReadingStore
from tests.fakes.clock import NOON

Value = TypeVar("Value", bound=msgspec.Struct)

USER = UserId("ada")
ACME = ConnectionId(USER, "acme")
DEVICE = Device("acme", "account-1", "ab" * 32, "iOS", "g7")
ALWAYS = Window(NOON - timedelta(days=365), NOON + timedelta(days=365))


def reading(number: int, value: int = 110, **others: Any) -> Reading:
    """Return the reading of a number of five-minute slots after noon."""
    return Reading(NOON + number * timedelta(minutes=5), value, Flag.OK, others.pop("device", DEVICE), **others)


def connection(state: ConnectionState = ConnectionState.ACTIVE, **others: Any) -> Connection:
    known: dict[str, Any] = {
        "id": ACME,
        "generation": "first",
        "region": "us",
        "app": "our-app",
        "connected_at": NOON,
        "provider_account": "account-1",
    }
    return Connection(state=state, **{**known, **others})


def grant(version: int = 1, **others: Any) -> Grant:
    known: dict[str, Any] = {"id": ACME, "generation": "first", "sealed": b"sealed %d" % version}
    return Grant(version=version, refreshed_at=NOON, **{**known, **others})


def replaced_fields(what: Value, /, **changes: Any) -> Value:
    return msgspec.structs.replace(what, **changes)


def connection_commit(head: Head | None, before: Connection | None, after: Connection, **others: Any) -> Commit:
    """Return the commit of a changed connection, with its event."""
    at = (head or Head(after.id.user)).next_recorded_at(NOON)
    commit = Commit.of_changes(head, [connection_changed(after)], at, user=after.id.user)
    summary = ConnectionSummary(after.state, 300, 0, 900)
    after_head = with_summary(replaced_fields(commit.head, erased=False), after.id.provider, summary)
    return replaced_fields(commit, head=after_head, connection_update=ConnectionUpdate(before, after), **others)


async def listed_commit(store: Store, user: UserId, at: datetime = NOON) -> Commit:
    """Return the commit of one change of a user whom the directory lists; the first one connects."""
    head = await store.readings.head(user)
    active = connection(id=ConnectionId(user, "acme"), provider_account=user)
    change = connection_changed(active)
    commit = Commit.of_changes(head, [change], (head or Head(user)).next_recorded_at(at), user=user)
    return replaced_fields(commit, connection_update=ConnectionUpdate(active if head else None, active))


async def commit_connection(store: Store, after: Connection | None = None, **others: Any) -> Connection:
    """Store a connection and its grant as a connect does."""
    after = after or connection()
    before = await store.connections.get(after.id)
    head = await store.readings.head(after.id.user)
    given = grant(id=after.id, generation=after.generation)
    await store.commits.write(connection_commit(head, before, after, grant=given, **others))
    return after


async def readings_commit_of(readings: ReadingStore, batch: Sequence[Reading], user: UserId = USER) -> Commit:
    """Return the commit of a batch, based on the stored readings."""
    head, known, _ = await readings.read(user, {segment_start(each.measured_at) for each in batch})
    head = head or Head(user)
    at = head.next_recorded_at(NOON)
    decision = decide(known, batch, at=at, last_change=head.last_change)
    return readings_commit(head, known, decision, provider="acme", origin=Origin.LIVE, at=at)


async def commit_readings(readings: ReadingStore, user: UserId = USER) -> list[StoredReading]:
    from_segments = [each async for each in readings.iter_packed(user, ALWAYS)]
    return [each for packed in from_segments for each in unpack(packed)]


async def unpublished_changes(store: Store, user: UserId = USER) -> list[Change]:
    """Return a user's unpublished changes in the order of their numbers."""
    entries = [entry for entry in await store.outbox.list_shard(shard_of(user)) if entry.user == user]
    found = await store.outbox.changes(entries)
    return [found[entry] for entry in entries]


def values_of(all_stored: Iterable[StoredReading]) -> list[int]:
    return [each.reading.glucose_mg_dl for each in all_stored]
