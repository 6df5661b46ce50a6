"""Quarantine pages: unreadable provider records, kept sealed."""

from collections.abc import Iterable
from datetime import datetime
from typing import TypeAlias

import msgspec
from msgspec.structs import replace

MAX_DROPPED_DIGESTS = 1_000
"""Digests of dropped records that a page keeps, about 60 KB."""


class QuarantinedRecord(msgspec.Struct, frozen=True):
    reason: str
    digest: bytes
    """Digest of the whole record, by which the record is recognised when it is sent again."""
    sealed: bytes
    """Empty after the record was dropped. The digest alone stays, so that the same record is not quarantined again."""
    noticed_at: datetime
    provider: str = ""
    provider_account: str = ""
    """The person's account, needed to translate the record again. Empty in records stored before this field existed."""


QuarantineKey: TypeAlias = datetime | int
"""Key of a page: the start of the record's segment. A record without a readable time is stored under the first
hexadecimal digit of its digest (0 to 15)."""


class QuarantinePage(msgspec.Struct, frozen=True):
    """Records with one key. An empty page stays, because its version number must continue."""

    key: QuarantineKey
    version: int
    """Number of writes so far, 0 if the page is not stored yet. A write fails if the number changed since the read."""
    records: tuple[QuarantinedRecord, ...]

    def find(self, digest: bytes) -> QuarantinedRecord | None:
        return next((record for record in self.records if record.digest == digest), None)

    def with_added(self, records: Iterable[QuarantinedRecord]) -> "QuarantinePage":
        return QuarantinePage(self.key, self.version + 1, (*self.records, *records))

    def without(self, digest: bytes) -> "QuarantinePage":
        remaining = tuple(record for record in self.records if record.digest != digest)
        return QuarantinePage(self.key, self.version + 1, remaining)

    def with_dropped(self, digest: bytes) -> "QuarantinePage":
        """Keep only a record's digest. Beyond ``MAX_DROPPED_DIGESTS``, the digests dropped longest ago are deleted."""
        digest_only = (replace(record, sealed=b"") for record in self.records if record.digest == digest)
        dropped = [*(record for record in self.records if not record.sealed), *digest_only]
        remaining = (record for record in self.records if record.sealed and record.digest != digest)
        return QuarantinePage(self.key, self.version + 1, (*dropped[-MAX_DROPPED_DIGESTS:], *remaining))
