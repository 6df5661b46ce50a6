"""A commit as the writes of one transaction, each with the condition that a lost race breaks."""

from collections.abc import Iterator

from bg_ingest.adapters.table import keys
from bg_ingest.adapters.table.connection_records import grant_item
from bg_ingest.adapters.table.gap_records import packed_gaps
from bg_ingest.adapters.table.guarded import Guarded, as_read, difference
from bg_ingest.adapters.table.protocol import Absent, Check, Condition, Delete, Equals, Exists, Item, Put, Update, Write
from bg_ingest.adapters.table.records import (
    FREE,
    JUDGED,
    OURS,
    VERSION,
    change_item,
    head_item,
    item,
    segment_item,
    shelf_item,
)
from bg_ingest.adapters.table.steps import step_writes
from bg_ingest.domain.commits import Commit, Head, Shelf
from bg_ingest.domain.events import UserErased
from bg_ingest.domain.gaps import Ledger
from bg_ingest.domain.ids import ConnectionId, UserId, shard_of
from bg_ingest.domain.segments import Segment
from bg_ingest.errors import Fenced, Outdated


def commit_writes(commit: Commit) -> list[Guarded]:
    """Return all writes of a commit; the connection's own mean Fenced, the others Outdated."""
    return [
        *(Guarded(write, Outdated) for write in _of_user(commit)),
        *(Guarded(write, Fenced) for write in _revival(commit)),
        *(step_writes(commit.step) if commit.step else ()),
        *(Guarded(write, Fenced) for write in _grant(commit)),
    ]


def _of_user(commit: Commit) -> Iterator[Write]:
    user, shard = commit.user, shard_of(commit.user)
    yield from _head(commit)
    for segment in commit.segments:
        yield _segment(commit, segment)
    for shelf in commit.shelves:
        yield _shelf(commit, shelf)
    for ledger in commit.ledgers:
        yield _ledger(user, ledger)
    for change in commit.changes:
        yield Put(keys.change(user, change.number), change_item(change), (Absent(),))
        yield Put(keys.outbox(shard, user, change.number), item())


def _head(commit: Commit) -> Iterator[Write]:
    key, after = keys.head(commit.user), head_item(commit.head)
    if commit.before is None:
        yield Put(key, after, (Absent(),))
        return
    before = head_item(commit.before)
    changed, removed = difference(before, after)
    if changed or removed or commit.changes:
        conditions = (Exists(), OURS, *head_as_read(commit.before), *_judged(commit, before))
        yield Update(key, changed | {"v": VERSION}, removed, conditions)
    elif commit.shelves:  # they have versions of their own, so only a tombstone matters
        yield Check(key, (Equals("erased", commit.before.erased),))


def head_as_read(before: Head) -> tuple[Equals, Equals]:
    """A tombstone is as read too: only who saw it, which is a connect, may write over it."""
    return Equals("last_change", before.last_change), Equals("erased", before.erased)


def _revival(commit: Commit) -> Iterator[Write]:
    """While something of an erased user may be left, deleting it would take from the new life too."""
    if commit.before is not None and commit.before.erased and not commit.head.erased:
        yield Check(keys.erasure(commit.user), (Absent(),))


def _judged(commit: Commit, before: Item) -> Iterator[Condition]:
    """How far gaps are judged moves without a change number: who did not see that might open what is not missing."""
    providers = {
        *commit.head.judged,
        *(each.what.provider for each in commit.changes if not isinstance(each.what, UserErased)),
    }
    return (as_read(before, JUDGED + name) for name in sorted(providers))


def _ledger(user: UserId, ledger: Ledger) -> Put:
    conditions = (Equals("version", ledger.version - 1), OURS) if ledger.version > 1 else (Absent(),)
    key = keys.ledger(ConnectionId(user, ledger.provider), ledger.month)
    return Put(key, item(version=ledger.version, gaps=packed_gaps(ledger.gaps)), conditions)


def _segment(commit: Commit, segment: Segment) -> Put:
    old = commit.known.get(segment.start)
    conditions = (Absent(),) if old is None else (Equals("change", old.change), OURS)
    return Put(keys.segment(commit.user, segment.start), segment_item(segment), conditions)


def _shelf(commit: Commit, shelf: Shelf) -> Put:
    conditions = (Equals("version", shelf.version - 1), OURS) if shelf.version > 1 else (Absent(),)
    return Put(keys.quarantine(commit.user, shelf.place), shelf_item(shelf), conditions)


def _grant(commit: Commit) -> Iterator[Write]:
    """A new grant needs no condition beside its connection's: each connect writes both."""
    refused: tuple[Condition, ...] = ()
    if commit.refused is not None:
        refused = Equals("generation", commit.refused.generation), Equals("version", commit.refused.version)
    if commit.grant is not None:
        yield Put(keys.grant(commit.grant.id), grant_item(commit.grant), (FREE, *refused))
    elif commit.drop_grant:
        if commit.step is None:
            raise ValueError("a grant is dropped in a step of its connection")
        yield Delete(keys.grant(commit.step.after.id), refused)
    elif commit.refused is not None:
        yield Check(keys.grant(commit.refused.id), refused)
