"""Numbers up to which the changes of users are published, as far as this process knows.

Each number is a fact that stays true, whichever process confirmed the event and whoever owns the shard: this change of
the user and all earlier ones are published. Commits carry the numbers to the heads. One row per shard has those that no
commit has carried yet, so that few events are repeated after a kill and none after a hand-over.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import anyio

from bg_ingest.domain.ids import UserId, shard_of

MAX_UNWRITTEN_USERS = 64
"""The row of a shard is due when this many of its users have a number that neither their head nor the row has. After a
kill, events of at most this many users of a shard are repeated."""

MAX_UNWRITTEN_SECONDS = 1800.0
"""The row is due when such a number is this old. Usually the user's next commit with changes has written it to the head
by then."""


@dataclass
class ShardNumbers:
    """Numbers of the users of one shard."""

    known: dict[UserId, int] = field(default_factory=dict)
    unstored: dict[UserId, int] = field(default_factory=dict)
    """Numbers that the heads do not have."""
    unwritten: dict[UserId, float] = field(default_factory=dict)
    """Time since which neither head nor row has the number of a user, the oldest first."""
    row: Mapping[UserId, int] = field(default_factory=dict)
    """Content of the row."""


class PublishedNumbers:
    """Numbers by user, of the shards that this process has taken and not released; 0 for a user without a number.

    They are kept when a shard is lost, because the same process may take it again after an outage of the store.
    """

    def __init__(self) -> None:
        self._shards: dict[int, ShardNumbers] = {}

    def get(self, user: UserId) -> int:
        shard = self._shards.get(shard_of(user))
        return shard.known.get(user, 0) if shard else 0

    def is_stored(self, user: UserId) -> bool:
        """Return whether the head of a user has the number."""
        shard = self._shards.get(shard_of(user))
        return shard is None or user not in shard.unstored

    def confirm(self, user: UserId, number: int) -> None:
        """Record that a change is published; all earlier ones must be. Smaller numbers are repeats without effect."""
        shard = self._shards.setdefault(shard_of(user), ShardNumbers())
        if number > shard.known.get(user, 0):
            shard.known[user] = shard.unstored[user] = number
            shard.unwritten.setdefault(user, anyio.current_time())

    def record_head(self, user: UserId, number: int) -> None:
        """Record in memory that the head of a user has this number, as read or written."""
        shard = self._shards.get(shard_of(user))
        if shard is None:
            return
        shard.known[user] = max(number, shard.known.get(user, 0))
        if shard.unstored.get(user, number) <= number:
            shard.unstored.pop(user, None)
            shard.unwritten.pop(user, None)

    def remove(self, user: UserId) -> None:
        """Drop an erased user. The row is due, because it may name the user."""
        if shard := self._shards.get(shard_of(user)):
            shard.known.pop(user, None)
            shard.unstored.pop(user, None)
            shard.unwritten[user] = float("-inf")

    def load_row(self, shard: int, row: Mapping[UserId, int], users: AbstractSet[UserId]) -> None:
        """Record the row of a taken shard. Users that the shard does not list any more are left out."""
        numbers = self._shards.setdefault(shard, ShardNumbers())
        for user in row.keys() & users:
            self.confirm(user, row[user])
        self.record_row(shard, row)
        numbers.unwritten |= dict.fromkeys(row.keys() - users, float("-inf"))

    def record_row(self, shard: int, row: Mapping[UserId, int]) -> None:
        """Record the row of a shard, as read or written."""
        numbers = self._shards.setdefault(shard, ShardNumbers())
        numbers.row = row
        unstored = numbers.unstored
        numbers.unwritten = {
            user: since for user, since in numbers.unwritten.items() if unstored.get(user, 0) > row.get(user, 0)
        }

    def is_row_due(self, shard: int) -> bool:
        unwritten = numbers.unwritten if (numbers := self._shards.get(shard)) else {}
        oldest = min(unwritten.values(), default=float("inf"))
        return len(unwritten) >= MAX_UNWRITTEN_USERS or anyio.current_time() - oldest >= MAX_UNWRITTEN_SECONDS

    def rows(self, shard: int) -> tuple[Mapping[UserId, int], dict[UserId, int]]:
        """Return the content of the row of a shard as far as is known, and what it should be."""
        numbers = self._shards.get(shard) or ShardNumbers()
        return numbers.row, dict(numbers.unstored)

    def forget(self, shard: int) -> None:
        """Drop the numbers of a shard that was released."""
        self._shards.pop(shard, None)
