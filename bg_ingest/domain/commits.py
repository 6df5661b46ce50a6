"""Contents of one transaction: a user's head with everything that changes with it, or an erasure."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from operator import add

import msgspec
from msgspec.structs import astuple, replace

from bg_ingest.domain.changes import Change, ChangeData, ReadingsRecorded, ReadingsRevised, UserErased
from bg_ingest.domain.connections import Connection, ConnectionState
from bg_ingest.domain.gaps import GapMonth
from bg_ingest.domain.grants import Grant
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.merging import newest_shown
from bg_ingest.domain.quarantine import QuarantinePage
from bg_ingest.domain.readings import Origin, StoredReading
from bg_ingest.domain.segments import Decision, KnownSegments, Segment


class ConnectionSummary(msgspec.Struct, frozen=True):
    """Part of a connection that the ``latest`` route needs. It is copied to the head so that one read suffices."""

    state: ConnectionState
    cadence_seconds: int
    delay_seconds: int
    interval_seconds: int


class Head(msgspec.Struct, frozen=True):
    """Newest state of a user. The head exists from the first connect on; a user without one is unknown."""

    user: UserId
    last_change: int = 0
    recorded_at: datetime | None = None
    """Time of the last change. The time of the next change is later."""
    newest: StoredReading | None = None
    summaries: Mapping[str, ConnectionSummary] = {}
    """By provider."""
    erased: bool = False
    """Tombstone: ``last_change`` is kept, and nothing may be written until the user connects again."""
    gaps_checked_until: Mapping[str, datetime] = {}
    """By provider: measurement time up to which gaps are checked. It moves back when an earlier reading is recorded."""
    published: int = 0
    """Number up to which all changes are recorded as published; later ones may be published already. In a tombstone it
    includes all changes before that of the erasure: they are not to be published any more."""

    def next_recorded_at(self, now: datetime) -> datetime:
        """Return the time of the next change: now in whole milliseconds, and after the previous change."""
        now = now.replace(microsecond=now.microsecond // 1000 * 1000)
        return max(now, self.recorded_at + timedelta(milliseconds=1)) if self.recorded_at else now


class ConnectionUpdate(msgspec.Struct, frozen=True):
    """Compare-and-set of one connection.

    The write succeeds only if state, generation and every changed field are still as read, and no owner with a later
    epoch has written. If ``before`` equals ``after``, nothing is written, and only generation and state are checked.
    This check treats the states active and paused as equal.
    """

    before: Connection | None
    after: Connection
    request_poll: bool = False
    """Also add a request for an immediate poll to the owner's inbox."""


class StoredWebhookId(msgspec.Struct, frozen=True):
    """Content of a stored webhook id."""

    generation: str
    """Generation of the connection at the receipt. After another connect, the same webhook takes effect again."""
    expires_at: datetime

    def detects(self, connection: Connection, now: datetime) -> bool:
        """Return True if a webhook with this id is a repetition."""
        return self.generation == connection.generation and self.expires_at > now


class ReceivedWebhook(msgspec.Struct, frozen=True):
    """Webhook whose id is to be stored with the last commit of its data."""

    connection: ConnectionId
    webhook_id: str
    stored: StoredWebhookId
    replaces: StoredWebhookId | None
    """Stored id as read, which is expired or belongs to an earlier connect; None if no id was stored."""


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """One transaction. Every part has its condition, and one failed condition cancels all parts."""

    before: Head | None
    """Head as read. The write succeeds only if its ``last_change`` is still the stored one."""
    head: Head
    segments: tuple[Segment, ...] = ()
    known_segments: KnownSegments = {}
    """Segments as read: the change number of each must be unchanged. With a condition on the head alone, a
    stale read of segments lost a third of the readings that were added concurrently."""
    quarantine_pages: tuple[QuarantinePage, ...] = ()
    gap_months: tuple[GapMonth, ...] = ()
    """Each is written on condition that its stored version is as read."""
    changes: tuple[Change, ...] = ()
    connection_update: ConnectionUpdate | None = None
    grant: Grant | None = None
    """Grant of a new connect. It replaces a grant of an older generation."""
    drop_grant: bool = False
    refused_grant: Grant | None = None
    """Grant that the provider refused permanently. Its generation and version must equal the stored ones."""

    webhook: ReceivedWebhook | None = None
    """Set in the last commit of a webhook's data. The stored id of the webhook must be as read."""

    @classmethod
    def of_changes(
        cls, before: Head | None, data: Sequence[ChangeData], at: datetime, *, user: UserId | None = None
    ) -> "Commit":
        """Build a commit of consecutively numbered changes. ``user`` is required without a head."""
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
    touched = (stored for segment in decision.segments for stored in segment.readings)
    # the first of equal candidates is returned: a revision, not its old value
    newest = newest_shown([*touched, *([before.newest] if before.newest else ())])
    commit = Commit.of_changes(before, data, at)
    head = replace(commit.head, newest=newest)
    return replace(commit, head=head, segments=decision.segments, known_segments=known)


def recheck_gaps_from(head: Head, provider: str, recorded: Iterable[StoredReading]) -> Head:
    """Move ``gaps_checked_until`` of a provider back to the earliest of the new readings, if that is earlier."""
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
    """API keys that lost access to the user."""
    others: int

    def merge(self, more: "ErasureCounts") -> "ErasureCounts":
        return ErasureCounts(*map(add, astuple(self), astuple(more)))


NOTHING_ERASED = ErasureCounts(0, 0, 0, 0, 0, 0, 0, 0)


class PendingErasure(msgspec.Struct, frozen=True):
    """Erasure that was begun, while some data may still be stored. Any process can finish the erasure."""

    user: UserId
    change: int
    """Number of the erasure's own change: the last one published for the user."""


class Erasure(msgspec.Struct, frozen=True):
    """Contents of the first transaction of an erasure: the tombstone, its event, and the connections to be deleted."""

    before: Head | None
    """Head as read. The write succeeds only if its ``last_change`` is still the stored one."""
    tombstone: Head
    change: Change
    connections: tuple[Connection, ...]

    @property
    def pending(self) -> PendingErasure:
        return PendingErasure(self.tombstone.user, self.change.number)


def plan_erasure(user: UserId, before: Head | None, connections: Sequence[Connection], now: datetime) -> Erasure:
    """Plan an erasure from the rows as read. The tombstone keeps only the change number and the time of the erasure."""
    commit = Commit.of_changes(before, [UserErased()], (before or Head(user)).next_recorded_at(now), user=user)
    (change,) = commit.changes
    tombstone = Head(user, change.number, change.recorded_at, erased=True, published=change.number - 1)
    return Erasure(before, tombstone, change, tuple(connections))
