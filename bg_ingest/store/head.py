"""Head of a user: the newest reading, the last change, and a summary per connection; one read answers ``latest``."""

from collections.abc import Iterator
from typing import Any

import msgspec

from bg_ingest.domain.changes import UserErased
from bg_ingest.domain.commits import Commit, ConnectionSummary, Head
from bg_ingest.domain.connections import ConnectionState
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.segment_codec import pack, to_epoch_ms, unpack
from bg_ingest.errors import Fenced, StaleRead
from bg_ingest.ports.table import Absent, Check, Condition, Equals, Exists, Item, Put, StoredItem, Update, Write
from bg_ingest.store import items, keys

_SUMMARY = "standing_"

_GAPS_CHECKED = "judged_"
"""Prefixes of attribute names; the provider follows."""


def encode_head(head: Head) -> Item:
    """Return the item. Each summary is an attribute, so that commits for other providers do not overwrite it."""
    newest = None if head.newest is None else pack([head.newest])
    return items.build_item(
        last_change=head.last_change,
        recorded_at=items.optional_epoch_ms(head.recorded_at),
        newest=newest,
        erased=head.erased,
        **{_SUMMARY + name: _encode_summary(summary) for name, summary in head.summaries.items()},
        **{_GAPS_CHECKED + name: to_epoch_ms(instant) for name, instant in head.gaps_checked_until.items()},
    )


def decode_head(user: UserId, item: StoredItem) -> Head:
    newest = item.get("newest")
    return Head(
        user,
        item["last_change"],
        items.optional_instant(item.get("recorded_at")),
        unpack(newest)[0] if newest else None,
        {name: _decode_summary(packed) for name, packed in _by_provider(item, _SUMMARY)},
        item["erased"],
        {name: items.from_epoch_ms(ms) for name, ms in _by_provider(item, _GAPS_CHECKED)},
    )


def commit_writes(commit: Commit) -> Iterator[items.ConditionalWrite]:
    head_write = _head_write(commit)
    if head_write is not None:
        yield items.ConditionalWrite(head_write, StaleRead)
    if (commit.before is None or commit.before.erased) and not commit.head.erased:
        yield items.ConditionalWrite(Put(keys.listed_user(commit.user), items.build_item()), StaleRead)
    if commit.before is not None and commit.before.erased and not commit.head.erased:
        # an unfinished erasure would also delete items that were written after the reconnect
        yield items.ConditionalWrite(Check(keys.erasure(commit.user), (Absent(),)), Fenced)


def head_conditions(before: Head | None) -> tuple[Condition, ...]:
    """Return the conditions of an unchanged head. A tombstone is overwritten only by a connect."""
    if before is None:
        return (Absent(),)
    return Exists(), items.VERSION_OK, Equals("last_change", before.last_change), Equals("erased", before.erased)


def _head_write(commit: Commit) -> Write | None:
    key, after = keys.head(commit.user), encode_head(commit.head)
    if commit.before is None:
        return Put(key, after, head_conditions(None))
    before = encode_head(commit.before)
    changed, removed = items.diff_items(before, after)
    if changed or removed or commit.changes:
        conditions = (*head_conditions(commit.before), *_gaps_checked_conditions(commit, before))
        return Update(key, changed | {"v": items.VERSION}, removed, conditions)
    if commit.quarantine_pages:  # pages have their own versions, so only a tombstone matters
        return Check(key, (Equals("erased", commit.before.erased),))
    return None


def _gaps_checked_conditions(commit: Commit, before: Item) -> Iterator[Condition]:
    """Return the conditions on the times of gap checks, which advance without a change number.

    A commit prepared before such an advance could open a gap for readings that are not missing.
    """
    providers = {
        *commit.head.gaps_checked_until,
        *(change.data.provider for change in commit.changes if not isinstance(change.data, UserErased)),
    }
    return (items.unchanged_condition(before, _GAPS_CHECKED + name) for name in sorted(providers))


def _by_provider(item: StoredItem, prefix: str) -> Iterator[tuple[str, Any]]:
    return ((name.removeprefix(prefix), item[name]) for name in item if name.startswith(prefix))


def _encode_summary(summary: ConnectionSummary) -> bytes:
    return msgspec.msgpack.encode(msgspec.structs.astuple(summary))


def _decode_summary(packed: bytes) -> ConnectionSummary:
    state, cadence, delay, interval, *_ = msgspec.msgpack.decode(packed)
    return ConnectionSummary(ConnectionState(state), cadence, delay, interval)
