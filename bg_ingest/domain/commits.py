"""What is written together or not at all: a user's head and everything that moves with it."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from bg_ingest.domain.changes import Change, ChangeData, ConnectionChanged, ReadingsRecorded, ReadingsRevised
from bg_ingest.domain.connections import Connection, ConnectionState
from bg_ingest.domain.gaps import GapMonth
from bg_ingest.domain.grants import Grant
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.quarantine import QuarantinePage
from bg_ingest.domain.readings import Origin, StoredReading, newest_reading
from bg_ingest.domain.segments import Decision, KnownSegments, Segment


class ConnectionSummary(msgspec.Struct, frozen=True):
    """What ``latest`` has to know of a connection, kept with the head so that one read answers it."""

    state: ConnectionState
    cadence_seconds: int
    delay_seconds: int
    interval_seconds: int


class Head(msgspec.Struct, frozen=True):
    """The newest of a user. It exists from the first connect on; who has none is unknown."""

    user: UserId
    last_change: int = 0
    recorded_at: datetime | None = None
    """Of the last change: the next is later."""
    newest: StoredReading | None = None
    summaries: Mapping[str, ConnectionSummary] = {}
    """By provider."""
    erased: bool = False
    """A tombstone: the number is kept, nothing may be written until the user connects again."""
    gaps_checked_until: Mapping[str, datetime] = {}
    """By provider: the reading up to which gaps have been judged. Readings from before it move it back."""

    def next_recorded_at(self, now: datetime) -> datetime:
        """Return when the next change is recorded: now, in whole milliseconds, and after the one before."""
        now = now.replace(microsecond=now.microsecond // 1000 * 1000)
        return max(now, self.recorded_at + timedelta(milliseconds=1)) if self.recorded_at else now


class ConnectionUpdate(msgspec.Struct, frozen=True):
    """A connection as read and as it shall be.

    The write holds only if the connection's state and generation, and every field that changes, still are as read,
    and no owner with a later epoch has written. Equal sides write nothing and only hold to the generation and the
    state, in which a pause makes no difference.
    """

    before: Connection | None
    after: Connection
    request_poll: bool = False
    """Whoever polls the connection shall look at it at once."""


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """One transaction; every part has its condition, and one that fails undoes all."""

    before: Head | None
    """As read: its last change number must still be the last."""
    head: Head
    segments: tuple[Segment, ...] = ()
    known_segments: KnownSegments = {}
    """As read: each segment's own change number must still stand. (With only the head conditioned, a third of
    concurrent additions were lost when one read was stale.)"""
    quarantine_pages: tuple[QuarantinePage, ...] = ()
    gap_months: tuple[GapMonth, ...] = ()
    """Of gaps, each on condition of its version."""
    changes: tuple[Change, ...] = ()
    connection_update: ConnectionUpdate | None = None
    grant: Grant | None = None
    """A new connect's grant; a grant of an older generation is replaced."""
    drop_grant: bool = False
    refused_grant: Grant | None = None
    """A grant whose refusal is now believed: it must still be the stored one, in generation and version."""

    @property
    def user(self) -> UserId:
        return self.head.user


def readings_commit(
    before: Head, known: KnownSegments, decision: Decision, *, provider: str, origin: Origin, at: datetime
) -> Commit:
    """Return the commit of a decision, without its connection's step and shelves."""
    data: list[ChangeData] = []
    if decision.recorded:
        data.append(ReadingsRecorded(provider, origin, decision.recorded))
    if decision.revised:
        data.append(ReadingsRevised(provider, origin, decision.revised))
    candidates = [*decision.recorded, *decision.revised, *([before.newest] if before.newest else ())]
    newest = newest_reading(candidates)  # the first of equals: of a revision and what it revises the new one
    commit = commit_of_changes(before, data, at)
    return msgspec.structs.replace(
        commit,
        head=msgspec.structs.replace(commit.head, newest=newest),
        segments=decision.segments,
        known_segments=known,
    )


def recheck_gaps_from(head: Head, provider: str, recorded: Iterable[StoredReading]) -> Head:
    """Return the head with gaps to be judged again from the earliest of new readings, where that is earlier."""
    checked_until = head.gaps_checked_until.get(provider)
    earliest = min((each.reading.measured_at for each in recorded), default=checked_until)
    if checked_until is None or earliest is None or earliest >= checked_until:
        return head
    return msgspec.structs.replace(head, gaps_checked_until={**head.gaps_checked_until, provider: earliest})


def commit_of_changes(
    before: Head | None, data: Sequence[ChangeData], at: datetime, *, user: UserId | None = None
) -> Commit:
    """Return a commit that numbers what happened; ``user`` is needed where there is no head yet."""
    if before is None:
        if user is None:
            raise ValueError("the first commit of a user needs the user")
        head = Head(user)
    else:
        head = before
    changes = tuple(Change(head.user, number, at, item) for number, item in enumerate(data, head.last_change + 1))
    after = msgspec.structs.replace(
        head, last_change=head.last_change + len(changes), recorded_at=at if changes else head.recorded_at
    )
    return Commit(before=before, head=after, changes=changes)


def connection_changed(connection: Connection) -> ConnectionChanged:
    return ConnectionChanged(connection.id.provider, connection.state, connection.reason)


def with_summary(head: Head, provider: str, summary: ConnectionSummary) -> Head:
    return msgspec.structs.replace(head, summaries={**head.summaries, provider: summary})
