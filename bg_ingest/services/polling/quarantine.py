"""Quarantine of unreadable records. They are sealed for a later analysis, and the rest of their page is stored."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice
from typing import TypeAlias

import msgspec
import structlog

from bg_ingest.domain.commits import Commit, ConnectionUpdate
from bg_ingest.domain.connections import Connection
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.polling import Outcome, PollResult
from bg_ingest.domain.quarantine import QuarantinedRecord, QuarantineKey, QuarantinePage
from bg_ingest.domain.readings import Unreadable
from bg_ingest.domain.segments import MAX_SEGMENTS_PER_COMMIT, segment_start
from bg_ingest.errors import Fenced, StaleRead
from bg_ingest.ports import Clock, Observer, Sealer
from bg_ingest.services.polling.commit import Committer
from bg_ingest.services.retries import retrying
from bg_ingest.store import Store

log: structlog.stdlib.BoundLogger = structlog.get_logger()

MAX_RECORDS_PER_PAGE = 200
"""Bound on the sealed records under one key. A provider that exceeds it evidently sends only garbage."""

MAX_RECORD_BYTES = 1_500
"""Largest number of bytes stored of one record: three times a valid record. A full page fits into one stored item."""

RecordsByKey: TypeAlias = Mapping[QuarantineKey, Sequence[Unreadable]]


@dataclass(frozen=True)
class Quarantine:
    """Stores unreadable records in quarantine pages, one page per key.

    A record that was stored before is recognised by its digest.
    """

    store: Store
    committer: Committer
    observer: Observer
    sealer: Sealer
    clock: Clock
    table: str
    _logged_full: set[ConnectionId] = field(default_factory=set, init=False)

    async def add(self, connection: Connection, unreadable: Sequence[Unreadable]) -> PollResult:
        """Store the records; return the numbers of new records, and of records without room in their quarantine page.

        Raise the errors of ``Ingester.ingest``. Nothing is stored of a record without room, so that the record is
        counted again each time the provider sends it.
        """
        by_key: dict[QuarantineKey, list[Unreadable]] = {}
        for record in unreadable:
            # always the same key for the same record
            key = segment_start(record.measured_at) if record.measured_at else hash_record(record.raw)[0] >> 4
            by_key.setdefault(key, []).append(record)
        keys = list(by_key)
        added: list[QuarantinedRecord] = []
        no_room = 0
        for first in range(0, len(keys), MAX_SEGMENTS_PER_COMMIT):
            group = {key: by_key[key] for key in keys[first : first + MAX_SEGMENTS_PER_COMMIT]}
            more, left_out = await self._add_pages(connection, group)
            self.observer.quarantined(connection.id.provider, more, left_out)
            added += more
            no_room += left_out
        if added:
            log.warning(
                "quarantined records",
                action="records_quarantined",
                connection=str(connection.id),
                count=len(added),
                reasons=dict(Counter(record.reason for record in added)),
            )
        self._log_full(connection.id, unreadable, no_room)
        return PollResult(Outcome.NOTHING_NEW, quarantined=len(added), not_kept=no_room)

    @retrying(StaleRead)
    async def _add_pages(self, connection: Connection, by_key: RecordsByKey) -> tuple[Sequence[QuarantinedRecord], int]:
        """Store the records of a few keys in one commit; return the new ones, and the number of those without room."""
        head = await self.store.readings.head(connection.id.user)
        if head is None or head.erased:
            raise Fenced
        pages, added, no_room = await self._grow_pages(connection, by_key)
        if not pages:
            return (), no_room
        update = ConnectionUpdate(connection, connection)
        commit = Commit(before=head, head=head, quarantine_pages=pages, connection_update=update)
        await self.committer.commit(commit)
        return added, no_room

    def _log_full(self, connection: ConnectionId, unreadable: Sequence[Unreadable], no_room: int) -> None:
        """Log a full page once, not at each poll that receives the same records."""
        if no_room and connection not in self._logged_full:
            log.warning(
                "no room to quarantine records", action="quarantine_full", connection=str(connection), count=no_room
            )
            self._logged_full.add(connection)
        elif unreadable and not no_room:
            self._logged_full.discard(connection)

    async def _grow_pages(
        self, connection: Connection, by_key: RecordsByKey
    ) -> tuple[tuple[QuarantinePage, ...], tuple[QuarantinedRecord, ...], int]:
        """Return the pages that change, the records that are new in them, and the number of records without room."""
        stored = await self.store.quarantine.read_pages(connection.id.user, by_key.keys())
        changed: list[QuarantinePage] = []
        added: list[QuarantinedRecord] = []
        no_room = 0
        for key, records in by_key.items():
            page = stored.get(key) or QuarantinePage(key, 0, ())
            known = {record.digest for record in page.records}
            fresh = {digest: record for record in records if (digest := hash_record(record.raw)) not in known}
            room = MAX_RECORDS_PER_PAGE - sum(1 for record in page.records if record.sealed)
            new_records = [self._seal(connection, *item) for item in islice(fresh.items(), max(0, room))]
            no_room += len(fresh) - len(new_records)
            if new_records:
                changed.append(page.with_added(new_records))
                added += new_records
        return tuple(changed), tuple(added), no_room

    def _seal(self, connection: Connection, digest: bytes, record: Unreadable) -> QuarantinedRecord:
        associated = record_seal_data(self.table, connection.id.user, digest)
        sealed = self.sealer.seal(record.raw[:MAX_RECORD_BYTES], associated)
        provider_account = connection.provider_account or ""
        at, provider = self.clock.now(), connection.id.provider
        return QuarantinedRecord(record.reason, digest, sealed, at, provider, provider_account)


def hash_record(raw: bytes) -> bytes:
    return blake2b(raw, digest_size=16).digest()


def record_seal_data(table: str, user: UserId, digest: bytes) -> bytes:
    """Return the associated data of the authenticated encryption of a record."""
    return msgspec.json.encode([table, user, "quarantine", digest.hex()])
