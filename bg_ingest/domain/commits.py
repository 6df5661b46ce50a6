"""Contents of one transaction: a user's head and all that changes together with it, or the erasure of the user."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from operator import add

import msgspec
from msgspec.structs import astuple, replace

from bg_ingest.domain.changes import Change, ChangeData, ReadingsRecorded, ReadingsRevised, UserErased
from bg_ingest.domain.connections import Connection, ConnectionState
from bg_ingest.domain.gaps import GapMonth
from bg_ingest.domain.grants import Grant
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.quarantine import QuarantinePage
from bg_ingest.domain.readings import Origin, StoredReading, newest_reading
from bg_ingest.domain.segments import Decision, KnownSegments, Segment


class ConnectionSummary(msgspec.Struct, frozen=True):
    """Part of a connection that ``latest`` needs, kept in the head so that one read suffices."""

    state: ConnectionState
    cadence_seconds: int
    delay_seconds: int
    interval_seconds: int


class Head(msgspec.Struct, frozen=True):
    """Newest state of a user. It exists from the first connect on; a user without it is unknown."""

    user: UserId
    last_change: int = 0
    recorded_at: datetime | None = None
    """Time of the last change. The next one is later."""
    newest: StoredReading | None = None
    summaries: Mapping[str, ConnectionSummary] = {}
    """By provider."""
    erased: bool = False
    """Tombstone: the number is kept, and nothing may be written until the user connects again."""
    gaps_checked_until: Mapping[str, datetime] = {}
    """By provider: reading up to which gaps are checked. Readings recorded from before it move it back."""

    def next_recorded_at(self, now: datetime) -> datetime:
        """Return the time of the next change: now in whole milliseconds, and after the previous change."""
        now = now.replace(microsecond=now.microsecond // 1000 * 1000)
        return max(now, self.recorded_at + timedelta(milliseconds=1)) if self.recorded_at else now


class ConnectionUpdate(msgspec.Struct, frozen=True):
    """Compare-and-set of one connection.

    The write succeeds only if state, generation and every changed field are still as read, and no owner with a later
    epoch has written. Equal sides write nothing and only check generation and state; in this check a pause makes no
    difference.
    """

    before: Connection | None
    after: Connection
    request_poll: bool = False
    """True if the owner of the connection is to poll it at once."""


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """One transaction. Every part has its condition, and one failed condition cancels all parts."""

    before: Head | None
    """As read: its last change number must still be the last."""
    head: Head
    segments: tuple[Segment, ...] = ()
    known_segments: KnownSegments = {}
    """As read: the change number of each segment must be unchanged. (With only the head conditioned, a third of
    concurrent additions were lost after a stale read.)"""
    quarantine_pages: tuple[QuarantinePage, ...] = ()
    gap_months: tuple[GapMonth, ...] = ()
    """Each on condition of its version."""
    changes: tuple[Change, ...] = ()
    connection_update: ConnectionUpdate | None = None
    grant: Grant | None = None
    """Grant of a new connect. It replaces a grant of an older generation."""
    drop_grant: bool = False
    refused_grant: Grant | None = None
    """Grant with a refusal that is now final. Generation and version must still be the stored ones."""

    @classmethod
    def of_changes(
        cls, before: Head | None, data: Sequence[ChangeData], at: datetime, *, user: UserId | None = None
    ) -> "Commit":
        """Number changes. ``user`` is required without a head."""
        head = before or (Head(user) if user else None)
        if head is None:
            raise ValueError("the first commit of a user needs the user")
        changes = tuple(Change(head.user, number, at, item) for number, item in enumerate(data, head.last_change + 1))
        recorded_at = at if changes else head.recorded_at
        after = replace(head, last_change=head.last_change + len(changes), recorded_at=recorded_at)
        return cls(before=before, head=after, changes=changes)

    @property
    def user(self) -> UserId:
        return self.head.user


def readings_commit(
    before: Head, known: KnownSegments, decision: Decision, *, provider: str, origin: Origin, at: datetime
) -> Commit:
    """Build the commit of a decision, without the connection and quarantine pages."""
    data: list[ChangeData] = []
    if decision.recorded:
        data.append(ReadingsRecorded(provider, origin, decision.recorded))
    if decision.revised:
        data.append(ReadingsRevised(provider, origin, decision.revised))
    candidates = [*decision.recorded, *decision.revised, *([before.newest] if before.newest else ())]
    newest = newest_reading(candidates)  # of equals the first wins: a revision before its old value
    commit = Commit.of_changes(before, data, at)
    head = replace(commit.head, newest=newest)
    return replace(commit, head=head, segments=decision.segments, known_segments=known)


def recheck_gaps_from(head: Head, provider: str, recorded: Iterable[StoredReading]) -> Head:
    """Move the gap check of a provider back to the earliest of new readings, if that is earlier."""
    checked_until = head.gaps_checked_until.get(provider)
    earliest = min((stored.reading.measured_at for stored in recorded), default=checked_until)
    if checked_until is None or earliest is None or earliest >= checked_until:
        return head
    return replace(head, gaps_checked_until={**head.gaps_checked_until, provider: earliest})


def with_summary(head: Head, provider: str, summary: ConnectionSummary) -> Head:
    return replace(head, summaries={**head.summaries, provider: summary})


class ErasureCounts(msgspec.Struct, frozen=True):
    """Number of deleted items of each kind."""

    readings: int
    changes: int
    """Stored events. Unpublished ones among them are never published."""
    connections: int
    grants: int
    gaps: int
    quarantined: int
    keys: int
    """API keys that were valid for the user and are not any more."""
    others: int

    def merge(self, more: "ErasureCounts") -> "ErasureCounts":
        return ErasureCounts(*map(add, astuple(self), astuple(more)))


NOTHING_ERASED = ErasureCounts(0, 0, 0, 0, 0, 0, 0, 0)


class PendingErasure(msgspec.Struct, frozen=True):
    """User with data that may still be stored. The row lets any process finish the erasure."""

    user: UserId
    change: int
    """Number of the erasure's own change: the last one published for the user."""


class Erasure(msgspec.Struct, frozen=True):
    """Contents of one transaction: the tombstone and its event replace everything that could write again."""

    before: Head | None
    """As read: its last change number must still be the last."""
    tombstone: Head
    change: Change
    connections: tuple[Connection, ...]

    @property
    def pending(self) -> PendingErasure:
        return PendingErasure(self.tombstone.user, self.change.number)


def plan_erasure(user: UserId, before: Head | None, connections: Sequence[Connection], now: datetime) -> Erasure:
    """Plan the erasure of a user as read. Of the head only its number and the time of the erasure stay."""
    commit = Commit.of_changes(before, [UserErased()], (before or Head(user)).next_recorded_at(now), user=user)
    (change,) = commit.changes
    tombstone = Head(user, change.number, change.recorded_at, erased=True)
    return Erasure(before, tombstone, change, tuple(connections))
