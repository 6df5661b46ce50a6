"""Keep the ledger of what is missing: compare it with the readings, and commit the difference."""

from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import msgspec

from bg_ingest.domain.changes import GapHealed, GapOpened
from bg_ingest.domain.commits import Commit, ConnectionUpdate, Head, commit_of_changes
from bg_ingest.domain.connections import Connection
from bg_ingest.domain.freshness import GAP_AFTER, LATE_TOLERANCE, overdue_before
from bg_ingest.domain.gap_detection import SILENCE_CAUSES, GapChanges, GapContext, detect_gaps, first_suspected_gap
from bg_ingest.domain.gaps import Cause, Gap, GapMonth, next_repair_at, repair_window, update_months
from bg_ingest.domain.polling import Outcome
from bg_ingest.domain.readings import Reading
from bg_ingest.domain.schedule import Rhythm
from bg_ingest.domain.segment_codec import unpack
from bg_ingest.domain.windows import Window
from bg_ingest.errors import Fenced, StaleRead
from bg_ingest.ports import Capabilities, Clock, Wakeups
from bg_ingest.services.polling.commit import commit_with_retries
from bg_ingest.services.retrying import retrying
from bg_ingest.store.gaps import GapStore
from bg_ingest.store.segments import ReadingStore

ALL_TIME = Window(datetime(1970, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC))
"""No reading is outside."""

LOOKBACK = timedelta(days=2)
"""Where the reading before a late one is looked for first; further back, only the ledger can know it."""

MAX_SEGMENTS_PER_READ = 60
"""Read at once: 15 days, 4,320 readings of a 5-minute sensor."""

PROGRESS_INTERVAL = timedelta(days=1)
"""How far we may have judged before that is written with nothing else: reading a day again costs less."""

HOURLY_CAUSES = {Cause.PROVIDER_FAILING, Cause.THROTTLED}
"""While it is so, an outcome is on record from its first hour; else it was we who did not look."""

REPAIR_LOOKBACK = timedelta(days=62)
"""How far back gaps may begin that are asked for again."""


class ReadingRun(msgspec.Struct, frozen=True):
    """Neighbouring readings of a connection, ascending; ``whole`` if there is none after them."""

    readings: Sequence[Reading]
    complete: bool


class GapKeeper:
    """Surveys a connection's readings for gaps. Repeating one changes nothing."""

    def __init__(self, readings: ReadingStore, gaps: GapStore, clock: Clock, wakeups: Wakeups) -> None:
        self._readings = readings
        self._gaps = gaps
        self._clock = clock
        self._wakeups = wakeups

    @retrying(StaleRead)
    async def check(self, connection: Connection, rhythm: Rhythm, capabilities: Capabilities) -> bool:
        """Judge from where the last survey ended, and commit what is new; tell whether there is more to do.

        Fenced when the connection is no longer as given.
        """
        head = await self._readings.head(connection.id.user)
        if head is None or head.erased:
            raise Fenced
        run = await self._next_run(connection, head)
        if not run.readings:
            return False
        found, months = await self._detect_changes(connection, rhythm, capabilities, run)
        more = found.has_more or not run.complete
        suspected_gap_at = first_suspected_gap(
            run.readings, int(rhythm.cadence.total_seconds()), since=found.checked_until
        )
        after = connection if more else msgspec.structs.replace(connection, suspected_gap_at=suspected_gap_at)
        commit = self._build_commit(ConnectionUpdate(connection, after), head, found, months, more=more)
        if commit is not None:
            await commit_with_retries(self._readings, commit)
            self._wakeups.wake_relay(commit.changes)
        return commit is not None and more

    async def due_repair(self, connection: Connection) -> tuple[Window | None, datetime | None]:
        """Return what is due to be asked for again, and when something will be next."""
        now = self._clock.now()
        months = await self._gaps.read_months(connection.id, now - REPAIR_LOOKBACK, now)
        gaps = [gap for month in months for gap in month.gaps]
        return repair_window(gaps, connection.repair_at or now, now), next_repair_at(gaps, now)

    async def _next_run(self, connection: Connection, head: Head) -> ReadingRun:
        """Read on from where all is judged, beginning with the reading before that."""
        start = head.gaps_checked_until.get(connection.id.provider)
        max_segments = MAX_SEGMENTS_PER_READ
        while True:
            found, complete = await self._read_segments(
                connection, start - LOOKBACK if start else ALL_TIME.start, max_segments
            )
            if complete or (found and (start is None or found[-1].measured_at > start)):
                break
            max_segments *= 4  # segments of others, or of before the start
        if start is None or not found:
            return ReadingRun(found, complete)
        first = max((index for index, each in enumerate(found) if each.measured_at < start), default=None)
        if first is not None:
            return ReadingRun(found[first:], complete)
        over = await self._gap_across(connection, start)
        # the reading before a long gap: only its time is known, and that is all that is needed of it
        before = [msgspec.structs.replace(found[0], measured_at=over.after)] if over else []
        return ReadingRun([*before, *found], complete)

    async def _read_segments(
        self, connection: Connection, start: datetime, max_segments: int
    ) -> tuple[list[Reading], bool]:
        """Return the connection's readings of the first so many segments, and whether these were all."""
        found: list[Reading] = []
        window, segments = Window(start, ALL_TIME.end), 0
        async with aclosing(self._readings.iter_packed(connection.id.user, window, consistent=True)) as packed:
            async for each in packed:
                if segments == max_segments:
                    return found, False
                segments += 1
                readings = (recorded.reading for recorded in unpack(each))
                found += [reading for reading in readings if reading.device.provider == connection.id.provider]
        return found, True

    async def _gap_across(self, connection: Connection, instant: datetime) -> Gap | None:
        months = await self._gaps.read_months(connection.id, ALL_TIME.start, instant)
        gaps = [gap for month in months for gap in month.gaps if gap.healed_at is None and gap.after < instant]
        last = max(gaps, key=lambda gap: gap.after, default=None)
        return last if last and (last.before is None or last.before >= instant) else None

    async def _detect_changes(
        self, connection: Connection, rhythm: Rhythm, capabilities: Capabilities, run: ReadingRun
    ) -> tuple[GapChanges, Sequence[GapMonth]]:
        now, readings = self._clock.now(), run.readings
        unread = connection.backfill
        overdue = overdue_before(now, rhythm.delay)
        months = await self._gaps.read_months(connection.id, readings[0].measured_at, readings[-1].measured_at)
        gap_changes = detect_gaps(
            readings,
            [gap for month in months for gap in month.gaps],
            GapContext(
                int(rhythm.cadence.total_seconds()),
                capabilities.warm_ups,
                self._silence_cause(connection, rhythm, readings),
            ),
            until=min(overdue, unread.start) if unread else overdue,
            silent=run.complete and not unread and readings[-1].measured_at + rhythm.step < overdue,
            at=now,
        )
        return gap_changes, months

    def _silence_cause(self, connection: Connection, rhythm: Rhythm, readings: Sequence[Reading]) -> Cause:
        """Tell why nothing comes: by the last outcome, unless the records begin too late after the last reading."""
        last = Outcome(connection.last_outcome) if connection.last_outcome else None
        cause = SILENCE_CAUSES.get(last, Cause.SERVICE_DOWN) if last else Cause.SERVICE_DOWN
        if cause not in HOURLY_CAUSES or connection.outcome_at is None:
            return cause
        outcome_expected_by = readings[-1].measured_at + rhythm.step + rhythm.delay + 2 * GAP_AFTER + LATE_TOLERANCE
        return Cause.SERVICE_DOWN if connection.outcome_at > outcome_expected_by else cause

    def _build_commit(
        self, update: ConnectionUpdate, head: Head, found: GapChanges, months: Sequence[GapMonth], *, more: bool
    ) -> Commit | None:
        connection, provider = update.after, update.after.id.provider
        checked_until = head.gaps_checked_until.get(provider)
        has_progress = (
            checked_until is None
            or found.checked_until - checked_until >= PROGRESS_INTERVAL
            or (more and found.checked_until > checked_until)
        )
        if not found.gaps and not has_progress and update.before == update.after:
            return None
        at = head.next_recorded_at(self._clock.now())
        change_data = [
            GapHealed(provider, each) if each.healed_at else GapOpened(provider, each) for each in found.gaps
        ]
        commit = commit_of_changes(head, change_data, at)
        repair_times = [each for each in (connection.repair_at, next_repair_at(found.gaps, at)) if each]
        after = msgspec.structs.replace(connection, repair_at=min(repair_times, default=None))
        return msgspec.structs.replace(
            commit,
            head=msgspec.structs.replace(
                commit.head, gaps_checked_until={**head.gaps_checked_until, provider: found.checked_until}
            ),
            gap_months=update_months(months, provider, found.gaps),
            connection_update=msgspec.structs.replace(update, after=after),
        )
