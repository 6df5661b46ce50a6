"""What is written together or not at all: a user's head and everything that moves with it."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeAlias

import msgspec

from bg_ingest.domain.connections import Connection, State
from bg_ingest.domain.events import Change, ConnectionChanged, Happening, ReadingsRecorded, ReadingsRevised
from bg_ingest.domain.gaps import Ledger
from bg_ingest.domain.grants import Grant
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.readings import Origin, Recorded, newest_of
from bg_ingest.domain.segments import Decision, Known, Segment

MOST_DROPPED = 1_000
"""Digests that a shelf remembers of dropped records, about 60 KB."""


class Standing(msgspec.Struct, frozen=True):
    """What ``latest`` has to know of a connection, kept with the head so that one read answers it."""

    state: State
    cadence_seconds: int
    delay_seconds: int
    interval_seconds: int


class Head(msgspec.Struct, frozen=True):
    """The newest of a user. It exists from the first connect on; who has none is unknown."""

    user: UserId
    last_change: int = 0
    recorded_at: datetime | None = None
    """Of the last change: the next is later."""
    newest: Recorded | None = None
    standings: Mapping[str, Standing] = {}
    """By provider."""
    erased: bool = False
    """A tombstone: the number is kept, nothing may be written until the user connects again."""
    judged: Mapping[str, datetime] = {}
    """By provider: the reading up to which gaps have been judged. Readings from before it move it back."""

    def next_instant(self, now: datetime) -> datetime:
        """Return when the next change is recorded: now, in whole milliseconds, and after the one before."""
        now = now.replace(microsecond=now.microsecond // 1000 * 1000)
        return max(now, self.recorded_at + timedelta(milliseconds=1)) if self.recorded_at else now


class SetAside(msgspec.Struct, frozen=True):
    """An unreadable record as kept."""

    reason: str
    digest: bytes
    """Of the whole record: tells the same record sent again."""
    sealed: bytes
    """Empty once it was dropped: then the digest alone stays, so that the same record is not set aside again."""
    noticed_at: datetime
    provider: str = ""
    provider_account: str = ""
    """Whose record it is: needed to translate it again. Empty in those kept before this was."""


Place: TypeAlias = datetime | int
"""Where a record is set aside: at its segment's start, or where not even its time could be read, at the first
hexadecimal digit of its digest (0 to 15)."""


class Shelf(msgspec.Struct, frozen=True):
    """The records set aside at one place. It stays when it is empty: its version must go on counting."""

    place: Place
    version: int
    """Counts its writes: the condition of the next. 0 while there is none."""
    records: tuple[SetAside, ...]

    def found(self, digest: bytes) -> SetAside | None:
        return next((each for each in self.records if each.digest == digest), None)

    def with_more(self, records: Iterable[SetAside]) -> "Shelf":
        return Shelf(self.place, self.version + 1, (*self.records, *records))

    def without(self, digest: bytes) -> "Shelf":
        return Shelf(self.place, self.version + 1, tuple(each for each in self.records if each.digest != digest))

    def with_dropped(self, digest: bytes) -> "Shelf":
        """Return it with nothing but the digest of a record; of the longest dropped not even that."""
        empty = (msgspec.structs.replace(each, sealed=b"") for each in self.records if each.digest == digest)
        dropped = [*(each for each in self.records if not each.sealed), *empty]
        kept = (each for each in self.records if each.sealed and each.digest != digest)
        return Shelf(self.place, self.version + 1, (*dropped[-MOST_DROPPED:], *kept))


class Step(msgspec.Struct, frozen=True):
    """A connection as read and as it shall be.

    The write holds only if the connection's state and generation, and every field that changes, still are as read,
    and no owner with a later epoch has written. Equal sides write nothing and only hold to the generation and the
    state, in which a pause makes no difference.
    """

    before: Connection | None
    after: Connection
    look: bool = False
    """Whoever polls the connection shall look at it at once."""


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """One transaction; every part has its condition, and one that fails undoes all."""

    before: Head | None
    """As read: its last change number must still be the last."""
    head: Head
    segments: tuple[Segment, ...] = ()
    known: Known = {}
    """As read: each segment's own change number must still stand. (With only the head conditioned, a third of
    concurrent additions were lost when one read was stale.)"""
    shelves: tuple[Shelf, ...] = ()
    ledgers: tuple[Ledger, ...] = ()
    """Of gaps, each on condition of its version."""
    changes: tuple[Change, ...] = ()
    step: Step | None = None
    grant: Grant | None = None
    """A new connect's grant; a grant of an older generation is replaced."""
    drop_grant: bool = False
    refused: Grant | None = None
    """A grant whose refusal is now believed: it must still be the stored one, in generation and version."""

    @property
    def user(self) -> UserId:
        return self.head.user


def readings_commit(
    before: Head, known: Known, decision: Decision, *, provider: str, origin: Origin, at: datetime
) -> Commit:
    """Return the commit of a decision, without its connection's step and shelves."""
    happenings: list[Happening] = []
    if decision.recorded:
        happenings.append(ReadingsRecorded(provider, origin, decision.recorded))
    if decision.revised:
        happenings.append(ReadingsRevised(provider, origin, decision.revised))
    candidates = [*decision.recorded, *decision.revised, *([before.newest] if before.newest else ())]
    newest = newest_of(candidates)  # the first of equals: of a revision and what it revises the new one
    commit = told(before, happenings, at)
    return msgspec.structs.replace(
        commit,
        head=msgspec.structs.replace(commit.head, newest=newest),
        segments=decision.segments,
        known=known,
    )


def judged_until(head: Head, provider: str, recorded: Iterable[Recorded]) -> Head:
    """Return the head with gaps to be judged again from the earliest of new readings, where that is earlier."""
    judged = head.judged.get(provider)
    earliest = min((each.reading.measured_at for each in recorded), default=judged)
    if judged is None or earliest is None or earliest >= judged:
        return head
    return msgspec.structs.replace(head, judged={**head.judged, provider: earliest})


def told(before: Head | None, happenings: Sequence[Happening], at: datetime, *, user: UserId | None = None) -> Commit:
    """Return a commit that numbers what happened; ``user`` is needed where there is no head yet."""
    if before is None:
        if user is None:
            raise ValueError("the first commit of a user needs the user")
        head = Head(user)
    else:
        head = before
    changes = tuple(Change(head.user, number, at, what) for number, what in enumerate(happenings, head.last_change + 1))
    after = msgspec.structs.replace(
        head, last_change=head.last_change + len(changes), recorded_at=at if changes else head.recorded_at
    )
    return Commit(before=before, head=after, changes=changes)


def changed(connection: Connection) -> ConnectionChanged:
    return ConnectionChanged(connection.id.provider, connection.state, connection.reason)


def with_standing(head: Head, provider: str, standing: Standing) -> Head:
    return msgspec.structs.replace(head, standings={**head.standings, provider: standing})
