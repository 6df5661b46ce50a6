"""Head of a user: the newest reading, the last change, a summary and the progress of each connection.

One read answers ``latest``. One update of the head writes the newest reading and the progress of a poll. Every change
of a connection's state, generation or epoch is also written to the head. Conditions on the head therefore fence all
writes that are based on an earlier connect, state or owner.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import msgspec

from bg_ingest.domain.changes import UserErased
from bg_ingest.domain.commits import Commit, ConnectionSummary, ConnectionUpdate, Head
from bg_ingest.domain.connections import PUSHABLE_STATES, Connection, ConnectionState
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.segment_codec import pack, to_epoch_ms, unpack_one
from bg_ingest.errors import Fenced, StaleRead
from bg_ingest.ports.table import (
    Absent,
    AtMost,
    Check,
    Condition,
    Conditions,
    Equals,
    Exists,
    Item,
    OneOf,
    Put,
    StoredItem,
    Update,
    Write,
)
from bg_ingest.store import items, keys

_NEWEST = "newest"
_SUMMARY, _GAPS_CHECKED = "standing_", "judged_"
_STATE, _EPOCH, _PROGRESS = "state_", "epoch_", "at_"
"""Prefixes of attribute names, each followed by the provider. The attributes of state, epoch and progress exist once a
connect is finished."""


def encode_head(head: Head) -> Item:
    """Return the item. Each summary is an attribute, so that commits for other providers do not overwrite it."""
    return _attributes(head) | _encode_newest(head)


def _encode_newest(head: Head) -> Item:
    return {} if head.newest is None else {_NEWEST: pack([head.newest])}


def _attributes(head: Head) -> Item:
    """Return all attributes except the newest reading."""
    return items.build_item(
        last_change=head.last_change,
        recorded_at=items.optional_epoch_ms(head.recorded_at),
        erased=head.erased,
        published=head.published,
        **{_SUMMARY + name: _encode_summary(summary) for name, summary in head.summaries.items()},
        **{_GAPS_CHECKED + name: to_epoch_ms(instant) for name, instant in head.gaps_checked_until.items()},
    )


def decode_head(user: UserId, item: StoredItem) -> Head:
    newest = item.get(_NEWEST)
    return Head(
        user,
        item["last_change"],
        items.optional_instant(item.get("recorded_at")),
        unpack_one(newest) if newest else None,
        {name: _decode_summary(packed) for name, packed in _by_provider(item, _SUMMARY)},
        item["erased"],
        {name: items.from_epoch_ms(ms) for name, ms in _by_provider(item, _GAPS_CHECKED)},
        item["published"],
    )


def commit_writes(commit: Commit) -> Iterator[items.ConditionalWrite]:
    changed, removed, fencing = _progress_change(commit.connection_update)
    head_write = _head_write(commit, changed, removed, fencing)
    if head_write is not None:
        yield items.ConditionalWrite(head_write, StaleRead, fencing)
    if (commit.before is None or commit.before.erased) and not commit.head.erased:
        yield items.ConditionalWrite(Put(keys.listed_user(commit.user), items.build_item()), StaleRead)
    if commit.before is not None and commit.before.erased and not commit.head.erased:
        # an unfinished erasure would also delete items that were written after the reconnect
        yield items.ConditionalWrite(Check(keys.erasure(commit.user), (Absent(),)), Fenced)


def head_conditions(before: Head | None) -> tuple[Condition, ...]:
    """Return the conditions that hold while the head is unchanged."""
    if before is None:
        return (Absent(),)
    return Exists(), items.VERSION_OK, Equals("last_change", before.last_change), Equals("erased", before.erased)


def progress_write(update: ConnectionUpdate) -> Iterator[items.ConditionalWrite]:
    """Yield the head's part of an update without a commit; only a check if ``before`` equals ``after``."""
    key, (changed, removed, fencing) = keys.head(update.after.id.user), _progress_change(update)
    if changed or removed:
        yield items.ConditionalWrite(items.update_existing(key, changed, fencing, removed), Fenced)
    elif update.before == update.after:
        yield items.ConditionalWrite(Check(key, fencing), Fenced)


def encode_progress(connection: Connection | None) -> Item:
    """Return the attributes of the head for a connection; none before its connect is finished.

    The progress is one packed array, to which later versions may only append elements. Instants are in epoch
    milliseconds. State and generation are one text, so that one condition compares both.
    """
    if connection is None or connection.state is ConnectionState.CONNECTING:
        return {}
    c, name = connection, connection.id.provider
    progress = (
        items.optional_epoch_ms(c.watermark),
        items.optional_epoch_ms(c.newest_reading_at),
        items.optional_epoch_ms(c.backfill.start) if c.backfill else None,
        items.optional_epoch_ms(c.backfill.end) if c.backfill else None,
        items.optional_epoch_ms(c.swept_at),
        items.optional_epoch_ms(c.repair_at),
        items.optional_epoch_ms(c.suspected_gap_at),
        c.cadence_seconds,
        c.delay_seconds,
        c.last_outcome,
        items.optional_epoch_ms(c.outcome_at),
    )
    return {
        _STATE + name: _encode_state(c.state, c.generation),
        _EPOCH + name: c.epoch,
        _PROGRESS + name: msgspec.msgpack.encode(progress),
    }


def decode_progress(provider: str, head: StoredItem) -> dict[str, Any]:
    """Return the progress fields of a connection; none before its connect is finished."""
    packed = head.get(_PROGRESS + provider)
    if packed is None:
        return {}
    watermark, newest, start, end, swept, repair, suspected, cadence, delay, outcome, outcome_at, *_ = (
        msgspec.msgpack.decode(packed)
    )
    return {
        "watermark": items.optional_instant(watermark),
        "newest_reading_at": items.optional_instant(newest),
        "backfill": items.optional_window(start, end),
        "swept_at": items.optional_instant(swept),
        "repair_at": items.optional_instant(repair),
        "suspected_gap_at": items.optional_instant(suspected),
        "cadence_seconds": cadence,
        "delay_seconds": delay,
        "last_outcome": outcome,
        "outcome_at": items.optional_instant(outcome_at),
        "epoch": head[_EPOCH + provider],
    }


def _progress_change(update: ConnectionUpdate | None) -> tuple[Item, tuple[str, ...], Conditions]:
    """Return the attributes that an update sets and removes, and the conditions that fence it."""
    if update is None:
        return {}, (), ()
    name, before = update.after.id.provider, encode_progress(update.before)
    if update.before == update.after:
        return {}, (), (_accepting_condition(update.after),)
    changed, removed = items.diff_items(before, encode_progress(update.after))
    names = dict.fromkeys((_STATE + name, *changed, *removed))
    names.pop(_EPOCH + name, None)
    fencing: list[Condition] = [items.unchanged_condition(before, attribute) for attribute in names]
    if _EPOCH + name in before:
        fencing.append(AtMost(_EPOCH + name, update.after.epoch))
    return changed, removed, tuple(fencing)


def _accepting_condition(connection: Connection) -> Condition:
    """Return the condition of an update that writes nothing, as for a push.

    The states active and paused count as equal. The epoch is not compared.
    """
    states = PUSHABLE_STATES if connection.accepts_pushes else {connection.state}
    accepted = (_encode_state(state, connection.generation) for state in sorted(states))
    return OneOf(_STATE + connection.id.provider, tuple(accepted))


def _encode_state(state: ConnectionState, generation: str) -> str:
    return f"{state}#{generation}"


def _head_write(commit: Commit, progress: Item, removed_progress: tuple[str, ...], fencing: Conditions) -> Write | None:
    key = keys.head(commit.user)
    if commit.before is None:
        return Put(key, encode_head(commit.head) | progress, head_conditions(None))
    before = _attributes(commit.before)
    changed, removed = items.diff_items(before, _attributes(commit.head))
    if commit.head.newest != commit.before.newest:  # only an erasure, which replaces the head, removes the newest
        changed |= _encode_newest(commit.head)
    changed, removed = changed | progress, (*removed, *removed_progress)
    if changed or removed or commit.changes:
        conditions = (*head_conditions(commit.before), *_gaps_checked_conditions(commit, before), *fencing)
        return Update(key, changed | {"v": items.VERSION}, removed, conditions)
    if commit.quarantine_pages:  # pages have their own versions, so only erasure and connection are checked
        return Check(key, (Equals("erased", commit.before.erased), *fencing))
    return Check(key, fencing) if fencing else None


def _gaps_checked_conditions(commit: Commit, before: Item) -> Iterator[Condition]:
    """Return the conditions on ``gaps_checked_until``, which can advance while ``last_change`` stays the same.

    Without these conditions, a commit prepared before the advance could open a gap for readings that are not missing.
    """
    providers = {
        *commit.head.gaps_checked_until,
        *(change.data.provider for change in commit.changes if not isinstance(change.data, UserErased)),
    }
    return (items.unchanged_condition(before, _GAPS_CHECKED + name) for name in sorted(providers))


def _by_provider(item: StoredItem, prefix: str) -> list[tuple[str, Any]]:
    return [(name.removeprefix(prefix), value) for name, value in item.items() if name.startswith(prefix)]


def _encode_summary(summary: ConnectionSummary) -> bytes:
    return msgspec.msgpack.encode(msgspec.structs.astuple(summary))


@lru_cache(maxsize=256)  # many users have equal summaries
def _decode_summary(packed: bytes) -> ConnectionSummary:
    state, cadence, delay, interval, *_ = msgspec.msgpack.decode(packed)
    return ConnectionSummary(ConnectionState(state), cadence, delay, interval)
