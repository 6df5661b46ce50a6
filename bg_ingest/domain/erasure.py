"""Erasure of a user: the first transaction, the remaining deletions, and the counts of deleted items."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from bg_ingest.domain.changes import Change, UserErased
from bg_ingest.domain.commits import Commit, Head
from bg_ingest.domain.connections import Connection
from bg_ingest.domain.ids import UserId


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
        ours, theirs = msgspec.structs.astuple(self), msgspec.structs.astuple(more)
        return ErasureCounts(*(count + more_count for count, more_count in zip(ours, theirs, strict=True)))


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
