"""Set aside what could not be read, sealed, so that it can be understood later and its page is stored now."""

from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from itertools import islice
from typing import TypeAlias

import msgspec
import structlog

from bg_ingest.domain.commits import Commit, Place, SetAside, Shelf, Step
from bg_ingest.domain.connections import Connection
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.outcomes import Ending, Outcome
from bg_ingest.domain.readings import Unreadable
from bg_ingest.domain.segments import MOST_SEGMENTS, segment_start
from bg_ingest.errors import Fenced, Outdated, StoreUnavailable
from bg_ingest.ports import Clock, Readings, Sealer
from bg_ingest.services.commit import TRIES, try_commit

log: structlog.stdlib.BoundLogger = structlog.get_logger()

MOST_SET_ASIDE = 200
"""Records kept at each place; beyond, a provider sends nothing but rubbish, and that is known by then."""

MOST_BYTES = 1_500
"""Kept of one record, three times what a sound one has: all of a place's stay within one item of the store."""

ByPlace: TypeAlias = Mapping[Place, Sequence[Unreadable]]


class Shelving:
    """Keeps unreadable records by place; the same record again is known by its digest."""

    def __init__(self, readings: Readings, sealer: Sealer, clock: Clock, table: str) -> None:
        self._readings = readings
        self._sealer = sealer
        self._clock = clock
        self._table = table
        self._told_full: set[ConnectionId] = set()

    async def keep(self, connection: Connection, unreadable: Sequence[Unreadable]) -> Outcome:
        """Keep the records; return how many were not known yet and how many found no room. Raises as ``Ingest.keep``.

        What found no room is not remembered: sent again, it is counted again.
        """
        by_place: dict[Place, list[Unreadable]] = {}
        for each in unreadable:
            by_place.setdefault(_place(each), []).append(each)
        places = list(by_place)
        groups = (places[first : first + MOST_SEGMENTS] for first in range(0, len(places), MOST_SEGMENTS))
        added: list[SetAside] = []
        no_room = 0
        for group in groups:
            more, left_out = await self.set_aside(connection, {place: by_place[place] for place in group})
            added += more
            no_room += left_out
        if added:
            log.warning(
                "set records aside",
                action="records_set_aside",
                connection=str(connection.id),
                count=len(added),
                reasons=dict(Counter(each.reason for each in added)),
            )
        self._tell_full(connection.id, unreadable, no_room)
        return Outcome(Ending.NOTHING_NEW, quarantined=len(added), no_room=no_room)

    async def set_aside(self, connection: Connection, by_place: ByPlace) -> tuple[Sequence[SetAside], int]:
        """Keep the records of a few places in one commit; return those new to us, and how many found no room."""
        for _ in range(TRIES):
            head = await self._readings.head(connection.id.user)
            if head is None or head.erased:
                raise Fenced
            shelves, added, no_room = await self._grown(connection, by_place)
            if not shelves:
                return (), no_room
            step = Step(connection, connection)
            commit = Commit(before=head, head=head, shelves=shelves, step=step)
            try:
                await try_commit(self._readings, commit)
            except Outdated:
                continue
            return added, no_room
        raise StoreUnavailable("too many writers at once")

    def _tell_full(self, connection: ConnectionId, unreadable: Sequence[Unreadable], no_room: int) -> None:
        """Say it once, not at each look that is sent the same again."""
        if no_room and connection not in self._told_full:
            log.warning("no room to set records aside", action="shelf_full", connection=str(connection), count=no_room)
            self._told_full.add(connection)
        elif unreadable and not no_room:
            self._told_full.discard(connection)

    async def _grown(
        self, connection: Connection, by_place: ByPlace
    ) -> tuple[tuple[Shelf, ...], tuple[SetAside, ...], int]:
        """Return the shelves that change, which records are new on them, and how many found no room."""
        known = await self._readings.shelves(connection.id.user, by_place.keys())
        changed: list[Shelf] = []
        added: list[SetAside] = []
        no_room = 0
        for place, records in by_place.items():
            shelf = known.get(place) or Shelf(place, 0, ())
            fresh = {d: each for each in records if shelf.found(d := digest_of(each.raw)) is None}
            room = MOST_SET_ASIDE - sum(1 for each in shelf.records if each.sealed)
            kept = [self._sealed(connection, digest, each) for digest, each in islice(fresh.items(), max(0, room))]
            no_room += len(fresh) - len(kept)
            if kept:
                changed.append(shelf.with_more(kept))
                added += kept
        return tuple(changed), tuple(added), no_room

    def _sealed(self, connection: Connection, digest: bytes, record: Unreadable) -> SetAside:
        associated = sealed_with(self._table, connection.id.user, digest)
        sealed = self._sealer.seal(record.raw[:MOST_BYTES], associated)
        whose = connection.id.provider, connection.provider_account or ""
        return SetAside(record.reason, digest, sealed, self._clock.now(), *whose)


def _place(record: Unreadable) -> Place:
    """The same record always comes to the same place."""
    return segment_start(record.measured_at) if record.measured_at else digest_of(record.raw)[0] >> 4


def digest_of(raw: bytes) -> bytes:
    return blake2b(raw, digest_size=16).digest()


def sealed_with(table: str, user: UserId, digest: bytes) -> bytes:
    """Return what a record's seal is bound to."""
    return msgspec.json.encode([table, user, "quarantine", digest.hex()])
