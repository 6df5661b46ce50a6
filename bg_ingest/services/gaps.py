"""Keep the ledger of what is missing: compare it with the readings, and commit the difference."""

from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import msgspec

from bg_ingest.domain.columns import unpack
from bg_ingest.domain.commits import Commit, Head, Step, told
from bg_ingest.domain.connections import Connection
from bg_ingest.domain.events import GapHealed, GapOpened
from bg_ingest.domain.freshness import GAP_AFTER, SLACK
from bg_ingest.domain.gaps import Cause, Gap, Ledger, rewritten
from bg_ingest.domain.judging import CAUSES, Judgement, Signs, judge, lacks_until
from bg_ingest.domain.outcomes import Ending
from bg_ingest.domain.readings import Reading
from bg_ingest.domain.repairs import next_ask, to_ask
from bg_ingest.domain.schedule import Rhythm
from bg_ingest.domain.windows import Window
from bg_ingest.errors import Fenced, Outdated, StoreUnavailable
from bg_ingest.ports import Capabilities, Clock, Gaps, Hints, Readings
from bg_ingest.services.commit import TRIES, try_commit

EVER = Window(datetime(1970, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC))
"""No reading is outside."""

LOOK_BACK = timedelta(days=2)
"""Where the reading before a late one is looked for first; further back, only the ledger can know it."""

MOST_SEGMENTS = 60
"""Read at once: 15 days, 4,320 readings of a 5-minute sensor."""

KEPT_EVERY = timedelta(days=1)
"""How far we may have judged before that is written with nothing else: reading a day again costs less."""

LOOKED_AT_HOURLY = {Cause.PROVIDER_FAILING, Cause.THROTTLED}
"""While it is so, an outcome is on record from its first hour; else it was we who did not look."""

REPAIRED = timedelta(days=62)
"""How far back gaps may begin that are asked for again."""


class Stretch(msgspec.Struct, frozen=True):
    """Neighbouring readings of a connection, ascending; ``whole`` if there is none after them."""

    readings: Sequence[Reading]
    whole: bool


class Surveying:
    """Surveys a connection's readings for gaps. Repeating one changes nothing."""

    def __init__(self, readings: Readings, gaps: Gaps, clock: Clock, hints: Hints) -> None:
        self._readings = readings
        self._gaps = gaps
        self._clock = clock
        self._hints = hints

    async def survey(self, connection: Connection, rhythm: Rhythm, capabilities: Capabilities) -> bool:
        """Judge from where the last survey ended, and commit what is new; tell whether there is more to do.

        Fenced when the connection is no longer as given.
        """
        for _ in range(TRIES):
            head = await self._readings.head(connection.id.user)
            if head is None or head.erased:
                raise Fenced
            stretch = await self._stretch(connection, head)
            if not stretch.readings:
                return False
            found, ledgers = await self._judged(connection, rhythm, capabilities, stretch)
            more = found.more or not stretch.whole
            left = lacks_until(stretch.readings, int(rhythm.cadence.total_seconds()), since=found.until)
            after = connection if more else msgspec.structs.replace(connection, lacks_until=left)
            commit = self._commit(Step(connection, after), head, found, ledgers, more=more)
            try:
                if commit is not None:
                    await try_commit(self._readings, commit)
                    self._hints.told(commit.changes)
            except Outdated:
                continue
            return commit is not None and more
        raise StoreUnavailable("too many writers at once")

    async def to_ask(self, connection: Connection) -> tuple[Window | None, datetime | None]:
        """Return what is due to be asked for again, and when something will be next."""
        now = self._clock.now()
        ledgers = await self._gaps.ledgers(connection.id, now - REPAIRED, now)
        gaps = [gap for ledger in ledgers for gap in ledger.gaps]
        return to_ask(gaps, connection.repair_at or now, now), next_ask(gaps, now)

    async def _stretch(self, connection: Connection, head: Head) -> Stretch:
        """Read on from where all is judged, beginning with the reading before that."""
        start = head.judged.get(connection.id.provider)
        most = MOST_SEGMENTS
        while True:
            found, whole = await self._read(connection, start - LOOK_BACK if start else EVER.start, most)
            if whole or (found and (start is None or found[-1].measured_at > start)):
                break
            most *= 4  # segments of others, or of before the start
        if start is None or not found:
            return Stretch(found, whole)
        first = max((place for place, each in enumerate(found) if each.measured_at < start), default=None)
        if first is not None:
            return Stretch(found[first:], whole)
        over = await self._gap_over(connection, start)
        # the reading before a long gap: only its time is known, and that is all that is needed of it
        before = [msgspec.structs.replace(found[0], measured_at=over.after)] if over else []
        return Stretch([*before, *found], whole)

    async def _read(self, connection: Connection, start: datetime, most: int) -> tuple[list[Reading], bool]:
        """Return the connection's readings of the first so many segments, and whether these were all."""
        found: list[Reading] = []
        window, segments = Window(start, EVER.end), 0
        async with aclosing(self._readings.packed(connection.id.user, window, consistent=True)) as packed:
            async for each in packed:
                if segments == most:
                    return found, False
                segments += 1
                readings = (recorded.reading for recorded in unpack(each))
                found += [reading for reading in readings if reading.device.provider == connection.id.provider]
        return found, True

    async def _gap_over(self, connection: Connection, instant: datetime) -> Gap | None:
        ledgers = await self._gaps.ledgers(connection.id, EVER.start, instant)
        gaps = [gap for ledger in ledgers for gap in ledger.gaps if gap.healed_at is None and gap.after < instant]
        last = max(gaps, key=lambda gap: gap.after, default=None)
        return last if last and (last.before is None or last.before >= instant) else None

    async def _judged(
        self, connection: Connection, rhythm: Rhythm, capabilities: Capabilities, stretch: Stretch
    ) -> tuple[Judgement, Sequence[Ledger]]:
        now, readings = self._clock.now(), stretch.readings
        unread = connection.backfill
        overdue = now - rhythm.delay - SLACK - GAP_AFTER
        ledgers = await self._gaps.ledgers(connection.id, readings[0].measured_at, readings[-1].measured_at)
        judgement = judge(
            readings,
            [gap for ledger in ledgers for gap in ledger.gaps],
            Signs(
                int(rhythm.cadence.total_seconds()), capabilities.warm_ups, self._silence(connection, rhythm, readings)
            ),
            until=min(overdue, unread.start) if unread else overdue,
            silent=stretch.whole and not unread and readings[-1].measured_at + rhythm.step < overdue,
            at=now,
        )
        return judgement, ledgers

    def _silence(self, connection: Connection, rhythm: Rhythm, readings: Sequence[Reading]) -> Cause:
        """Tell why nothing comes: by the last outcome, unless the records begin too late after the last reading."""
        last = Ending(connection.last_outcome) if connection.last_outcome else None
        cause = CAUSES.get(last, Cause.SERVICE_DOWN) if last else Cause.SERVICE_DOWN
        if cause not in LOOKED_AT_HOURLY or connection.outcome_at is None:
            return cause
        looked_by = readings[-1].measured_at + rhythm.step + rhythm.delay + 2 * GAP_AFTER + SLACK
        return Cause.SERVICE_DOWN if connection.outcome_at > looked_by else cause

    def _commit(
        self, step: Step, head: Head, found: Judgement, ledgers: Sequence[Ledger], *, more: bool
    ) -> Commit | None:
        connection, provider = step.after, step.after.id.provider
        kept = head.judged.get(provider)
        further = kept is None or found.until - kept >= KEPT_EVERY or (more and found.until > kept)
        if not found.gaps and not further and step.before == step.after:
            return None
        at = head.next_instant(self._clock.now())
        happened = [GapHealed(provider, each) if each.healed_at else GapOpened(provider, each) for each in found.gaps]
        commit = told(head, happened, at)
        asks = [each for each in (connection.repair_at, next_ask(found.gaps, at)) if each]
        after = msgspec.structs.replace(connection, repair_at=min(asks, default=None))
        return msgspec.structs.replace(
            commit,
            head=msgspec.structs.replace(commit.head, judged={**head.judged, provider: found.until}),
            ledgers=rewritten(ledgers, provider, found.gaps),
            step=msgspec.structs.replace(step, after=after),
        )
