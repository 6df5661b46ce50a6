"""Set aside what could not be read, sealed, so that it can be understood later and its page is stored now."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import blake2b
from itertools import islice
from typing import TypeAlias

import msgspec
import structlog

from bg_ingest.domain.commits import Commit, Head, SetAside, Shelf, Step
from bg_ingest.domain.connections import Connection
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.readings import Unreadable
from bg_ingest.domain.segments import MOST_SEGMENTS, segment_start
from bg_ingest.errors import Fenced, Outdated, StoreUnavailable
from bg_ingest.ports import Clock, Readings, Sealer
from bg_ingest.services.commit import TRIES, try_commit

log: structlog.stdlib.BoundLogger = structlog.get_logger()

MOST_SET_ASIDE = 200
"""Records kept per segment; beyond, a provider sends nothing but rubbish, and that is known by then."""

MOST_BYTES = 1_500
"""Kept of one record, three times what a sound one has: all of a segment's stay within one item of the store."""

ByStart: TypeAlias = Mapping[datetime | None, Sequence[Unreadable]]


class Shelving:
    """Keeps unreadable records by segment; the same record again is known by its digest."""

    def __init__(self, readings: Readings, sealer: Sealer, clock: Clock, table: str) -> None:
        self._readings = readings
        self._sealer = sealer
        self._clock = clock
        self._table = table

    async def keep(self, connection: Connection, unreadable: Sequence[Unreadable]) -> int:
        """Keep the records and return how many were not known yet; raises as ``Ingest.keep`` does."""
        by_start: dict[datetime | None, list[Unreadable]] = {}
        for each in unreadable:
            by_start.setdefault(segment_start(each.measured_at) if each.measured_at else None, []).append(each)
        starts = list(by_start)
        groups = (starts[place : place + MOST_SEGMENTS] for place in range(0, len(starts), MOST_SEGMENTS))
        added = sum([await self._commit(connection, {start: by_start[start] for start in group}) for group in groups])
        if added:
            log.warning("set records aside", action="records_set_aside", connection=str(connection.id), count=added)
        return added

    async def _commit(self, connection: Connection, by_start: ByStart) -> int:
        for _ in range(TRIES):
            head = await self._readings.head(connection.id.user)
            if head is None or head.erased:
                raise Fenced
            shelves, added = await self._grown(head, by_start)
            if not shelves:
                return 0
            commit = Commit(before=head, head=head, shelves=shelves, step=Step(connection, connection))
            try:
                await try_commit(self._readings, commit)
            except Outdated:
                continue
            return added
        raise StoreUnavailable("too many writers at once")

    async def _grown(self, head: Head, by_start: ByStart) -> tuple[tuple[Shelf, ...], int]:
        """Return the shelves that change, and how many records that adds."""
        known = await self._readings.shelves(head.user, by_start.keys())
        changed, added = [], 0
        for start, records in by_start.items():
            shelf = known.get(start) or Shelf(start, 0, ())
            digests = {each.digest for each in shelf.records}
            fresh = {d: each for each in records if (d := blake2b(each.raw, digest_size=16).digest()) not in digests}
            room = MOST_SET_ASIDE - len(shelf.records)
            kept = [self._sealed(head.user, digest, each) for digest, each in islice(fresh.items(), max(0, room))]
            if kept:
                changed.append(Shelf(start, shelf.version + 1, (*shelf.records, *kept)))
                added += len(kept)
        return tuple(changed), added

    def _sealed(self, user: UserId, digest: bytes, record: Unreadable) -> SetAside:
        associated = msgspec.json.encode([self._table, user, "quarantine", digest.hex()])
        return SetAside(
            record.reason, digest, self._sealer.seal(record.raw[:MOST_BYTES], associated), self._clock.now()
        )
