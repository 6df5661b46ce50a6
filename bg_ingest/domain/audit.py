"""Who read or changed whose data: what is on record, and for how long it matters."""

from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import blake2b

import msgspec

KEY_BYTES = 32
HOUR = timedelta(hours=1)


class AuditAction(StrEnum):
    """What was done. Reads and pushes come all day: they are recorded once an hour."""

    READ = "read"
    PUSH = "push"
    CHANGE = "change"


class AuditRecord(msgspec.Struct, frozen=True):
    """One line of the audit. It names no user: ``person`` is a keyed hash, so that it may outlive an erasure."""

    user_hash: str
    at: datetime
    """Of reads and pushes: the hour they fell in."""
    action: AuditAction
    credential: str
    """As ``Caller.name`` has it; of a token's user only the keyed hash."""
    route: str
    """Method and path, with names for its parts."""
    nonce: str = ""
    """Of changes: made up when it was noted, since two may fall into one instant. It is not read back."""

    @property
    def name(self) -> str:
        """What tells it from others of the same instant; written again, it is the same."""
        whole = f"{self.action} {self.credential} {self.route} {self.nonce}"
        return blake2b(whole.encode(), digest_size=8).hexdigest()


def hash_user(key: bytes, text: str) -> str:
    """Return what stands for a user in the audit: 128 bits that nobody can compute or test without the key."""
    return blake2b(text.encode(), key=key, digest_size=16, person=b"bg-ingest audit").hexdigest()


def hour_start(instant: datetime) -> datetime:
    return instant.replace(minute=0, second=0, microsecond=0)
