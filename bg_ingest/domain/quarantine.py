"""TODO."""

from collections.abc import Iterable
from datetime import datetime
from typing import TypeAlias

import msgspec

MAX_DROPPED_DIGESTS = 1_000
"""Digests that a shelf remembers of dropped records, about 60 KB."""


class QuarantinedRecord(msgspec.Struct, frozen=True):
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


QuarantineKey: TypeAlias = datetime | int
"""Where a record is set aside: at its segment's start, or where not even its time could be read, at the first
hexadecimal digit of its digest (0 to 15)."""


class QuarantinePage(msgspec.Struct, frozen=True):
    """The records set aside at one place. It stays when it is empty: its version must go on counting."""

    key: QuarantineKey
    version: int
    """Counts its writes: the condition of the next. 0 while there is none."""
    records: tuple[QuarantinedRecord, ...]

    def find(self, digest: bytes) -> QuarantinedRecord | None:
        return next((each for each in self.records if each.digest == digest), None)

    def with_added(self, records: Iterable[QuarantinedRecord]) -> "QuarantinePage":
        return QuarantinePage(self.key, self.version + 1, (*self.records, *records))

    def without(self, digest: bytes) -> "QuarantinePage":
        return QuarantinePage(self.key, self.version + 1, tuple(each for each in self.records if each.digest != digest))

    def with_dropped(self, digest: bytes) -> "QuarantinePage":
        """Return it with nothing but the digest of a record; of the longest dropped not even that."""
        empty = (msgspec.structs.replace(each, sealed=b"") for each in self.records if each.digest == digest)
        dropped = [*(each for each in self.records if not each.sealed), *empty]
        remaining = (each for each in self.records if each.sealed and each.digest != digest)
        return QuarantinePage(self.key, self.version + 1, (*dropped[-MAX_DROPPED_DIGESTS:], *remaining))
