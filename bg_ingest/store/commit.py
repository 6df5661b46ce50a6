"""A commit as the writes of one transaction, each with the condition that a lost race breaks."""

from collections.abc import Iterator

from bg_ingest.domain.changes import UserErased
from bg_ingest.domain.commits import Commit, Head
from bg_ingest.domain.gaps import GapMonth
from bg_ingest.domain.ids import ConnectionId, UserId, shard_of
from bg_ingest.domain.quarantine import QuarantinePage
from bg_ingest.domain.segments import Segment
from bg_ingest.errors import Fenced, StaleRead
from bg_ingest.ports.table import Absent, Check, Condition, Delete, Equals, Exists, Item, Put, Update, Write
from bg_ingest.store import keys
from bg_ingest.store.conditional import ConditionalWrite, diff_items, unchanged_condition
from bg_ingest.store.connection_items import connection_writes
from bg_ingest.store.gaps import encode_gaps
from bg_ingest.store.grants import encode_grant
from bg_ingest.store.items import (
    GAPS_CHECKED,
    VERSION,
    VERSION_OK,
    VERSION_OK_OR_ABSENT,
    build_item,
    encode_change,
    encode_head,
    encode_quarantine_page,
    encode_segment,
)


def commit_writes(commit: Commit) -> list[ConditionalWrite]:
    """Return all writes of a commit; the connection's own mean Fenced, the others StaleRead."""
    return [
        *(ConditionalWrite(write, StaleRead) for write in _user_writes(commit)),
        *(ConditionalWrite(write, Fenced) for write in _revival_checks(commit)),
        *(connection_writes(commit.connection_update) if commit.connection_update else ()),
        *(ConditionalWrite(write, Fenced) for write in _grant_writes(commit)),
    ]


def _user_writes(commit: Commit) -> Iterator[Write]:
    user, shard = commit.user, shard_of(commit.user)
    yield from _head_writes(commit)
    for segment in commit.segments:
        yield _segment_write(commit, segment)
    for page in commit.quarantine_pages:
        yield _quarantine_write(commit, page)
    for gap_month in commit.gap_months:
        yield _gap_month_write(user, gap_month)
    for change in commit.changes:
        yield Put(keys.change(user, change.number), encode_change(change), (Absent(),))
        yield Put(keys.outbox(shard, user, change.number), build_item())


def _head_writes(commit: Commit) -> Iterator[Write]:
    key, after = keys.head(commit.user), encode_head(commit.head)
    if commit.before is None:
        yield Put(key, after, (Absent(),))
        return
    before = encode_head(commit.before)
    changed, removed = diff_items(before, after)
    if changed or removed or commit.changes:
        conditions = (Exists(), VERSION_OK, *head_conditions(commit.before), *_gaps_checked_conditions(commit, before))
        yield Update(key, changed | {"v": VERSION}, removed, conditions)
    elif commit.quarantine_pages:  # they have versions of their own, so only a tombstone matters
        yield Check(key, (Equals("erased", commit.before.erased),))


def head_conditions(before: Head) -> tuple[Equals, Equals]:
    """A tombstone is as read too: only who saw it, which is a connect, may write over it."""
    return Equals("last_change", before.last_change), Equals("erased", before.erased)


def _revival_checks(commit: Commit) -> Iterator[Write]:
    """While something of an erased user may be left, deleting it would take from the new life too."""
    if commit.before is not None and commit.before.erased and not commit.head.erased:
        yield Check(keys.erasure(commit.user), (Absent(),))


def _gaps_checked_conditions(commit: Commit, before: Item) -> Iterator[Condition]:
    """How far gaps are judged moves without a change number: who did not see that might open what is not missing."""
    providers = {
        *commit.head.gaps_checked_until,
        *(each.data.provider for each in commit.changes if not isinstance(each.data, UserErased)),
    }
    return (unchanged_condition(before, GAPS_CHECKED + name) for name in sorted(providers))


def _gap_month_write(user: UserId, gap_month: GapMonth) -> Put:
    conditions = (Equals("version", gap_month.version - 1), VERSION_OK) if gap_month.version > 1 else (Absent(),)
    key = keys.gap_month(ConnectionId(user, gap_month.provider), gap_month.month)
    return Put(key, build_item(version=gap_month.version, gaps=encode_gaps(gap_month.gaps)), conditions)


def _segment_write(commit: Commit, segment: Segment) -> Put:
    old = commit.known_segments.get(segment.start)
    conditions = (Absent(),) if old is None else (Equals("change", old.change), VERSION_OK)
    return Put(keys.segment(commit.user, segment.start), encode_segment(segment), conditions)


def _quarantine_write(commit: Commit, page: QuarantinePage) -> Put:
    conditions = (Equals("version", page.version - 1), VERSION_OK) if page.version > 1 else (Absent(),)
    return Put(keys.quarantine(commit.user, page.key), encode_quarantine_page(page), conditions)


def _grant_writes(commit: Commit) -> Iterator[Write]:
    """A new grant needs no condition beside its connection's: each connect writes both."""
    refused: tuple[Condition, ...] = ()
    if commit.refused_grant is not None:
        refused = Equals("generation", commit.refused_grant.generation), Equals("version", commit.refused_grant.version)
    if commit.grant is not None:
        yield Put(keys.grant(commit.grant.id), encode_grant(commit.grant), (VERSION_OK_OR_ABSENT, *refused))
    elif commit.drop_grant:
        if commit.connection_update is None:
            raise ValueError("a grant is dropped in a step of its connection")
        yield Delete(keys.grant(commit.connection_update.after.id), refused)
    elif commit.refused_grant is not None:
        yield Check(keys.grant(commit.refused_grant.id), refused)
