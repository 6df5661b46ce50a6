"""The end of all we hold of a user: what is written first, what is left to delete, and what was removed."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from bg_ingest.domain.changes import Change, UserErased
from bg_ingest.domain.commits import Head, commit_of_changes
from bg_ingest.domain.connections import Connection
from bg_ingest.domain.ids import UserId


class ErasureCounts(msgspec.Struct, frozen=True):
    """How much there was of each kind."""

    readings: int = 0
    changes: int = 0
    """Events on record; those that waited to be told are not told any more."""
    connections: int = 0
    grants: int = 0
    gaps: int = 0
    quarantined: int = 0
    keys: int = 0
    """API keys that were good for the user, and are not any more."""
    others: int = 0

    def merge(self, more: "ErasureCounts") -> "ErasureCounts":
        ours, theirs = msgspec.structs.astuple(self), msgspec.structs.astuple(more)
        return ErasureCounts(*(one + other for one, other in zip(ours, theirs, strict=True)))


class PendingErasure(msgspec.Struct, frozen=True):
    """A user of whom something may be left: a row that whoever finds it can go on from."""

    user: UserId
    change: int
    """The erasure's own: the last thing told of the user."""


class Erasure(msgspec.Struct, frozen=True):
    """What one transaction writes: the tombstone and its event, in place of everything that could write again."""

    before: Head | None
    """As read: its last change number must still be the last."""
    tombstone: Head
    change: Change
    connections: tuple[Connection, ...]

    @property
    def pending(self) -> PendingErasure:
        return PendingErasure(self.tombstone.user, self.change.number)


def plan_erasure(user: UserId, before: Head | None, connections: Sequence[Connection], now: datetime) -> Erasure:
    """Return the erasure of a user as read: of the head nothing stays but its number and that time."""
    commit = commit_of_changes(before, [UserErased()], (before or Head(user)).next_recorded_at(now), user=user)
    (change,) = commit.changes
    tombstone = Head(user, change.number, change.recorded_at, erased=True)
    return Erasure(before, tombstone, change, tuple(connections))
