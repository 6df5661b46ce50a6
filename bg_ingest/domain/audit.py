"""Audit records of reads and changes of users' data."""

from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import blake2b

import msgspec

KEY_BYTES = 32
HOUR = timedelta(hours=1)


class AuditAction(StrEnum):
    """Kind of access. Reads and pushes occur all day and are recorded once an hour."""

    READ = "read"
    PUSH = "push"
    CHANGE = "change"


class AuditRecord(msgspec.Struct, frozen=True):
    """One line of the audit. ``user_hash`` is a keyed hash, so that the record may outlive an erasure."""

    user_hash: str
    at: datetime
    """Reads and pushes: the start of their hour."""
    action: AuditAction
    credential: str
    """``Caller.name``; for a token issued to a user only the keyed hash."""
    route: str
    """Method and path, with parameter names for the variable parts."""
    nonce: str = ""
    """Random value of a change, because two changes may fall into one instant. It is not read back."""

    @property
    def name(self) -> str:
        """Distinguishes records of the same instant. A repeated write has the same name."""
        whole = f"{self.action} {self.credential} {self.route} {self.nonce}"
        return blake2b(whole.encode(), digest_size=8).hexdigest()


def hash_user(key: bytes, text: str) -> str:
    """Return the hash of a user in the audit: 128 bits that cannot be computed or tested without the key."""
    return blake2b(text.encode(), key=key, digest_size=16, person=b"bg-ingest audit").hexdigest()


def hour_start(instant: datetime) -> datetime:
    return instant.replace(minute=0, second=0, microsecond=0)
