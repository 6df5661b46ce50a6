"""What we need of the store to remember who asked."""

from collections.abc import AsyncGenerator, Collection, Sequence
from datetime import datetime
from typing import Protocol

from bg_ingest.domain.audit import AuditRecord
from bg_ingest.domain.windows import Window


class Trail(Protocol):
    """The audit: records are only ever added, and go when they expire."""

    async def hash_key(self, fresh: bytes) -> bytes:
        """Return the sealed key of its hashes: the one that was kept first, ``fresh`` where there was none."""

    async def add(self, records: Collection[AuditRecord], expires_at: datetime) -> None:
        """Keep them; the same hour's read again is the same record. After an error they may be added again."""

    def iter_records(self, user_hash: str, window: Window, now: datetime) -> AsyncGenerator[Sequence[AuditRecord]]:
        """Yield a person's records that have not expired, ascending."""
