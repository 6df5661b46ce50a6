"""Ids of users and connections, and the shard of a user."""

import re
from hashlib import blake2b
from typing import NewType

import msgspec

UserId = NewType("UserId", str)
"""Our own id of a user: see ``is_user_id``."""

SHARDS = 256
"""Number of shards of a table. It is fixed, because a user's shard must not change while the table exists."""

_USER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@|-]{0,127}\Z")


def is_user_id(text: str) -> bool:
    """Check that the whole text is a valid user id. A user id has no ``#``, which separates the parts of keys."""
    return _USER_ID.match(text) is not None


def shard_of(user: UserId) -> int:
    """Return the user's shard, 0 to 255: the same in every process and version."""
    return int.from_bytes(blake2b(user.encode()).digest()[:8], "big") % SHARDS


class ConnectionId(msgspec.Struct, frozen=True, order=True, gc=False):
    user: UserId
    provider: str

    def __str__(self) -> str:
        return f"{self.user}/{self.provider}"

    @property
    def jitter(self) -> float:
        """Fixed number in [0, 1) that spreads connections which would otherwise act together."""
        return int.from_bytes(blake2b(str(self).encode(), person=b"jitter").digest()[:8], "big") / 2**64
