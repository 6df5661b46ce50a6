"""One look at a provider, and keeping what it brought."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import blake2b
from random import uniform

import anyio
import msgspec
import structlog

from bg_ingest.domain.commits import Commit, Head, SetAside, Shelf, Standing, Step, readings_commit, with_standing
from bg_ingest.domain.connections import Connection, Defaults
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.outcomes import Ending, Outcome
from bg_ingest.domain.readings import Origin, Reading, Unreadable
from bg_ingest.domain.segments import Decision, decide, parts, segment_start
from bg_ingest.errors import Conflicted, Fenced, Outdated, StoreUnavailable
from bg_ingest.ports import Capabilities, Clock, Hints, Page, Readings, Sealer

log: structlog.stdlib.BoundLogger = structlog.get_logger()

TRIES, PATIENCE = 10, 5.0
"""How often, and for how many seconds, a commit that loses races is tried before the caller's next turn."""

MOST_SET_ASIDE = 200
"""Unreadable records kept per segment; beyond, a provider sends nothing but rubbish and it is only counted."""


class Ingest:
    """Keeps batches of readings, wherever they come from: the same again changes nothing."""

    def __init__(
        self,
        readings: Readings,
        sealer: Sealer,
        clock: Clock,
        hints: Hints,
        capabilities: Mapping[str, Capabilities],
        defaults: Defaults,
        table: str,
    ) -> None:
        self._readings = readings
        self._sealer = sealer
        self._clock = clock
        self._hints = hints
        self._capabilities = capabilities
        self._defaults = defaults
        self._table = table

    async def keep(
        self, connection: Connection, page: Page, *, origin: Origin, after: Connection | None = None
    ) -> tuple[Outcome, Connection]:
        """Store a page in as few commits as it may take, oldest first; return what was new and the connection after.

        ``after`` is how the connection shall be once all is stored; its watermark rises with every commit, so that a
        crash between two repeats little. Without it (a push) the connection is only held to take pushes still.
        StoreUnavailable, or Fenced when the connection is no longer as given: what was committed until then stays.
        """
        quarantined = await self._set_aside(connection, page.unreadable)
        outcome = Outcome(Ending.NOTHING_NEW, quarantined=quarantined)
        batches = list(parts(page.readings))
        for number, batch in enumerate(batches, 1):
            step = Step(connection, connection)
            if after is not None:
                reached = risen(connection, batch)
                step = Step(connection, _merged(reached, after) if number == len(batches) else reached)
            stored = await self._commit(step, batch, origin)
            if stored.ending is Ending.READ:
                connection = step.after
            outcome = outcome.plus(stored)
        return outcome, connection

    async def _commit(self, step: Step, batch: Sequence[Reading], origin: Origin) -> Outcome:
        starts = {segment_start(each.measured_at) for each in batch}
        user = step.after.id.user
        give_up_at = anyio.current_time() + PATIENCE
        for attempt in range(TRIES):
            head, known = await self._readings.known(user, starts)
            if head is None or head.erased:
                raise Fenced
            at = head.next_instant(self._clock.now())
            decision = decide(known, batch, at=at, last_change=head.last_change)
            quarantined = await self._set_aside(step.before or step.after, decision.refused)
            counts = (len(decision.recorded), len(decision.revised), decision.duplicates, quarantined)
            if not decision.segments:
                return Outcome(Ending.NOTHING_NEW, *counts)
            commit = readings_commit(
                head,
                known,
                decision,
                provider=step.after.id.provider,
                origin=_seen_from(step.before, decision, origin),
                at=at,
            )
            commit = msgspec.structs.replace(commit, step=step, head=self._standing(commit.head, step.after))
            try:
                await self._try_commit(commit)
            except Outdated:
                if anyio.current_time() > give_up_at:
                    break
                await anyio.sleep(uniform(0, 0.01 * 2 ** min(attempt, 6)))
                continue
            self._hints.told(commit.changes)
            return Outcome(Ending.READ, *counts)
        raise StoreUnavailable("too many writers at once")

    async def _try_commit(self, commit: Commit) -> None:
        for attempt in range(TRIES):
            try:
                return await self._readings.commit(commit)
            except Conflicted:
                await anyio.sleep(uniform(0, 0.01 * 2**attempt))
        raise StoreUnavailable("too many transactions at once")

    async def _set_aside(self, connection: Connection, unreadable: Sequence[Unreadable]) -> int:
        """Keep records that could not be read, sealed; return how many were not known yet."""
        if not unreadable:
            return 0
        by_start: dict[datetime | None, list[Unreadable]] = {}
        for each in unreadable:
            by_start.setdefault(segment_start(each.measured_at) if each.measured_at else None, []).append(each)
        for _ in range(TRIES):
            head, shelves, added = await self._shelved(connection.id.user, by_start)
            if not shelves:
                return 0
            commit = Commit(before=head, head=head, shelves=shelves, step=Step(connection, connection))
            try:
                await self._try_commit(commit)
            except Outdated:
                continue
            log.warning("set records aside", action="records_set_aside", connection=connection.id, count=added)
            return added
        raise StoreUnavailable("too many writers at once")

    async def _shelved(
        self, user: UserId, by_start: Mapping[datetime | None, Sequence[Unreadable]]
    ) -> tuple[Head, tuple[Shelf, ...], int]:
        head = await self._readings.head(user)
        if head is None or head.erased:
            raise Fenced
        known = await self._readings.shelves(user, by_start.keys())
        changed, added = [], 0
        for start, records in by_start.items():
            shelf = known.get(start) or Shelf(start, 0, ())
            digests = {each.digest for each in shelf.records}
            fresh = {d: each for each in records if (d := blake2b(each.raw, digest_size=16).digest()) not in digests}
            kept = [self._sealed(user, digest, each) for digest, each in fresh.items()]
            kept = kept[: MOST_SET_ASIDE - len(shelf.records)]
            if kept:
                changed.append(Shelf(start, shelf.version + 1, (*shelf.records, *kept)))
                added += len(kept)
        return head, tuple(changed), added

    def _sealed(self, user: UserId, digest: bytes, record: Unreadable) -> SetAside:
        associated = msgspec.json.encode([self._table, user, "quarantine", digest.hex()])
        return SetAside(record.reason, digest, self._sealer.seal(record.raw, associated), self._clock.now())

    def _standing(self, head: Head, connection: Connection) -> Head:
        return with_standing(head, connection.id.provider, self.standing(connection))

    def standing(self, connection: Connection) -> Standing:
        """Return what ``latest`` has to know of a connection."""
        capabilities = self._capabilities[connection.id.provider]
        cadence = connection.cadence_seconds or capabilities.cadence.total_seconds()
        return Standing(
            connection.state,
            int(cadence),
            int(capabilities.regions[connection.region].total_seconds()),
            int(self._defaults.interval(connection.worker) / timedelta(seconds=1)),
        )


def risen(connection: Connection, batch: Sequence[Reading]) -> Connection:
    """Return the connection with what stored readings (ascending) move: the watermark never falls."""
    if not batch:
        return connection
    newest = batch[-1].measured_at
    return msgspec.structs.replace(
        connection,
        watermark=max(connection.watermark or newest, newest),
        newest_reading_at=max(connection.newest_reading_at or newest, newest),
    )


def _merged(reached: Connection, after: Connection) -> Connection:
    return msgspec.structs.replace(
        after,
        watermark=max(filter(None, (reached.watermark, after.watermark)), default=None),
        newest_reading_at=reached.newest_reading_at,
    )


def _seen_from(before: Connection | None, decision: Decision, origin: Origin) -> Origin:
    """A poll's late readings, those before its watermark, are the overlap's."""
    watermark = before.watermark if before else None
    late = watermark is not None and all(each.reading.measured_at < watermark for each in decision.recorded)
    return Origin.OVERLAP if origin is Origin.LIVE and late and decision.recorded else origin
