"""Numbers up to which the changes of users are published, as far as this process knows.

A number means that this change of the user and all earlier ones are published. A new owner of the shard does not
affect this. Commits write the numbers to the heads. One row per shard has the numbers that no commit has written yet,
so that few events are repeated after a kill and none after a hand-over.
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
"""The row is also due when the number of a user has been in neither the head nor the row for so long. Usually the next
commit of the user has written the number to the head by then."""


@dataclass
class ShardNumbers:
    """Numbers of the users of one shard."""

    known: dict[UserId, int] = field(default_factory=dict)
    not_in_head: dict[UserId, int] = field(default_factory=dict)
    """Numbers that the heads do not have."""
    unwritten_since: dict[UserId, float] = field(default_factory=dict)
    """Loop time since which the number of a user is in neither the head nor the row; -inf makes the row due at once."""
    row: Mapping[UserId, int] = field(default_factory=dict)
    """Content of the row."""


class PublishedNumbers:
    """Numbers by user, of the shards that this process has taken and not released; 0 for a user without a number.

    The numbers of a lost shard are kept, because the same process may take it again after an outage of the store.
    """

    def __init__(self) -> None:
        self._shards: dict[int, ShardNumbers] = {}

    def get(self, user: UserId) -> int:
        shard = self._shards.get(shard_of(user))
        return shard.known.get(user, 0) if shard else 0

    def is_in_head(self, user: UserId) -> bool:
        """Return False if the number of a user is not in the head yet."""
        shard = self._shards.get(shard_of(user))
        return shard is None or user not in shard.not_in_head

    def confirm(self, user: UserId, number: int) -> None:
        """Record that a change and all earlier ones are published. A repeated or smaller number has no effect."""
        shard = self._shards.setdefault(shard_of(user), ShardNumbers())
        if number > shard.known.get(user, 0):
            shard.known[user] = shard.not_in_head[user] = number
            shard.unwritten_since.setdefault(user, anyio.current_time())

    def record_head(self, user: UserId, number: int) -> None:
        """Record in memory that the head of a user has this number, as read or written."""
        shard = self._shards.get(shard_of(user))
        if shard is None:
            return
        shard.known[user] = max(number, shard.known.get(user, 0))
        if shard.not_in_head.get(user, number) <= number:
            shard.not_in_head.pop(user, None)
            shard.unwritten_since.pop(user, None)

    def remove(self, user: UserId) -> None:
        """Drop an erased user. The row becomes due, because the stored row may contain the user."""
        if shard := self._shards.get(shard_of(user)):
            shard.known.pop(user, None)
            shard.not_in_head.pop(user, None)
            shard.unwritten_since[user] = float("-inf")

    def load_row(self, shard: int, row: Mapping[UserId, int], users: AbstractSet[UserId]) -> None:
        """Add the numbers of a shard's row, as read. Users outside of ``users`` are left out and make the row due."""
        numbers = self._shards.setdefault(shard, ShardNumbers())
        for user in row.keys() & users:
            self.confirm(user, row[user])
        self.record_row(shard, row)
        numbers.unwritten_since |= dict.fromkeys(row.keys() - users, float("-inf"))

    def record_row(self, shard: int, row: Mapping[UserId, int]) -> None:
        """Record the row of a shard, as read or written."""
        numbers = self._shards.setdefault(shard, ShardNumbers())
        numbers.row = row
        not_in_head = numbers.not_in_head
        numbers.unwritten_since = {
            user: since
            for user, since in numbers.unwritten_since.items()
            if not_in_head.get(user, 0) > row.get(user, 0)
        }

    def is_row_due(self, shard: int) -> bool:
        unwritten_since = numbers.unwritten_since if (numbers := self._shards.get(shard)) else {}
        oldest = min(unwritten_since.values(), default=float("inf"))
        return len(unwritten_since) >= MAX_UNWRITTEN_USERS or anyio.current_time() - oldest >= MAX_UNWRITTEN_SECONDS

    def rows(self, shard: int) -> tuple[Mapping[UserId, int], dict[UserId, int]]:
        """Return the last known content of a shard's row, and the content that is to be written."""
        numbers = self._shards.get(shard) or ShardNumbers()
        return numbers.row, dict(numbers.not_in_head)

    def forget(self, shard: int) -> None:
        """Drop the numbers of a shard that was released."""
        self._shards.pop(shard, None)
