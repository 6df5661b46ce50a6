"""Gap checks: the stored gaps are compared with the readings, and the difference is committed."""

from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import msgspec
from msgspec.structs import replace

from bg_ingest.domain.changes import GapHealed, GapOpened
from bg_ingest.domain.commits import Commit, ConnectionUpdate, Head
from bg_ingest.domain.connections import Connection
from bg_ingest.domain.freshness import GAP_AFTER, LATE_TOLERANCE, overdue_before
from bg_ingest.domain.gap_detection import SILENCE_CAUSES, GapChanges, GapContext, detect_gaps, first_suspected_gap
from bg_ingest.domain.gaps import Cause, Gap, GapMonth, next_repair_at, repair_window, update_months
from bg_ingest.domain.merging import select_shown
from bg_ingest.domain.polling import Outcome
from bg_ingest.domain.readings import Reading
from bg_ingest.domain.schedule import MAX_IDLE_INTERVAL, Rhythm
from bg_ingest.domain.segment_codec import unpack
from bg_ingest.domain.windows import Window
from bg_ingest.errors import Fenced, StaleRead
from bg_ingest.ports import Capabilities, Clock
from bg_ingest.services.polling.commit import Committer
from bg_ingest.services.retries import retrying
from bg_ingest.store.gaps import GapStore
from bg_ingest.store.segments import ReadingStore

ALL_TIME = Window(datetime(1970, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC))
"""Window that contains every reading."""

LOOKBACK = timedelta(days=2)
"""A check starts to read this long before the end of the previous one, to find the last reading before that end. An
older reading is found only through the stored gaps."""

MAX_SEGMENTS_PER_READ = 60
"""15 days, 4,320 readings of a 5-minute sensor."""

PROGRESS_INTERVAL = timedelta(days=1)
"""Smallest progress that a check writes if nothing else changed. Reading a day again costs less than a write."""

HOURLY_CAUSES = {Cause.PROVIDER_FAILING, Cause.THROTTLED}
"""Causes whose outcome is written hourly while polls run. If it is written late, no poll ran when the silence began."""

REPAIR_LOOKBACK = timedelta(days=62)
"""Maximum age of a gap that a repair reads again."""


class ReadingRun(msgspec.Struct, frozen=True):
    """Consecutive readings of a connection, ascending. ``complete`` is True if no later readings are stored."""

    readings: Sequence[Reading]
    complete: bool


class GapKeeper:
    """Checks a connection's readings for gaps. A repeated check changes nothing."""

    def __init__(self, readings: ReadingStore, gaps: GapStore, committer: Committer, clock: Clock) -> None:
        self._readings = readings
        self._gaps = gaps
        self._committer = committer
        self._clock = clock

    @retrying(StaleRead)
    async def check(self, connection: Connection, rhythm: Rhythm, capabilities: Capabilities) -> bool:
        """Check from the end of the last check and commit the difference; return True if there is more to check.

        Fenced if the connection has changed.
        """
        head = await self._readings.head(connection.id.user)
        if head is None or head.erased:
            raise Fenced
        run = await self._next_run(connection, head)
        if not run.readings:
            return False
        gap_changes, months = await self._detect_changes(connection, rhythm, capabilities, run)
        more = gap_changes.has_more or not run.complete
        suspected_gap_at = first_suspected_gap(
            run.readings, int(rhythm.cadence.total_seconds()), since=gap_changes.checked_until
        )
        after = connection if more else replace(connection, suspected_gap_at=suspected_gap_at)
        commit = self._build_commit(ConnectionUpdate(connection, after), head, gap_changes, months, more=more)
        if commit is not None:
            await self._committer.commit(commit)
        return commit is not None and more

    async def due_repair(self, connection: Connection) -> tuple[Window | None, datetime | None]:
        """Return the window of a due repair, and the time of the next one."""
        now = self._clock.now()
        months = await self._gaps.read_months(connection.id, now - REPAIR_LOOKBACK, now)
        gaps = [gap for month in months for gap in month.gaps]
        return repair_window(gaps, connection.repair_at or now, now), next_repair_at(gaps, now)

    async def _next_run(self, connection: Connection, head: Head) -> ReadingRun:
        """Return the readings from the end of the last check on, preceded by the last reading before that end."""
        start = head.gaps_checked_until.get(connection.id.provider)
        max_segments = MAX_SEGMENTS_PER_READ
        read_from = start - LOOKBACK if start else ALL_TIME.start
        while True:
            readings, complete = await self._read_segments(connection, read_from, max_segments)
            if complete or (readings and (start is None or readings[-1].measured_at > start)):
                break
            max_segments *= 4  # all segments belonged to other providers or to the time before the start
        if start is None or not readings:
            return ReadingRun(readings, complete)
        first = max((index for index, reading in enumerate(readings) if reading.measured_at < start), default=None)
        if first is not None:
            return ReadingRun(readings[first:], complete)
        spanning_gap = await self._gap_across(connection, start)
        # a gap stores only the time of the reading before the gap, which suffices
        before = [replace(readings[0], measured_at=spanning_gap.after)] if spanning_gap else []
        return ReadingRun([*before, *readings], complete)

    async def _read_segments(
        self, connection: Connection, start: datetime, max_segments: int
    ) -> tuple[list[Reading], bool]:
        """Return the connection's shown readings of the first segments, and True if no further segments follow."""
        provider, provider_readings = connection.id.provider, list[Reading]()
        window, segments = Window(start, ALL_TIME.end), 0
        async with aclosing(self._readings.iter_packed(connection.id.user, window, consistent=True)) as packed:
            async for segment in packed:
                if segments == max_segments:
                    return select_shown(provider_readings, lambda reading: reading), False
                segments += 1
                readings = (recorded.reading for recorded in unpack(segment))
                provider_readings += [reading for reading in readings if reading.device.provider == provider]
        return select_shown(provider_readings, lambda reading: reading), True

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
        cause = self._silence_cause(connection, rhythm, readings)
        gap_changes = detect_gaps(
            readings,
            [gap for month in months for gap in month.gaps],
            GapContext(int(rhythm.cadence.total_seconds()), capabilities.warm_ups, cause),
            until=min(overdue, unread.start) if unread else overdue,
            silent=run.complete and not unread and readings[-1].measured_at + rhythm.step < overdue,
            at=now,
        )
        return gap_changes, months

    def _silence_cause(self, connection: Connection, rhythm: Rhythm, readings: Sequence[Reading]) -> Cause:
        """Return the cause of a silence by the last outcome.

        One of ``HOURLY_CAUSES`` becomes SERVICE_DOWN if its outcome was written so late that no poll ran when the
        silence began.
        """
        last = Outcome(connection.last_outcome) if connection.last_outcome else None
        cause = SILENCE_CAUSES.get(last, Cause.SERVICE_DOWN) if last else Cause.SERVICE_DOWN
        if cause not in HOURLY_CAUSES or connection.outcome_at is None:
            return cause
        expected_at = readings[-1].measured_at + rhythm.step + rhythm.delay
        # time of the first poll that finds the silence long enough for a gap
        recorded_by = expected_at + GAP_AFTER + max(rhythm.step, MAX_IDLE_INTERVAL) + LATE_TOLERANCE
        return Cause.SERVICE_DOWN if connection.outcome_at > recorded_by else cause

    def _build_commit(
        self, update: ConnectionUpdate, head: Head, gap_changes: GapChanges, months: Sequence[GapMonth], *, more: bool
    ) -> Commit | None:
        connection, provider = update.after, update.after.id.provider
        checked_until = head.gaps_checked_until.get(provider)
        has_progress = (
            checked_until is None
            or gap_changes.checked_until - checked_until >= PROGRESS_INTERVAL
            or (more and gap_changes.checked_until > checked_until)
        )
        if not gap_changes.gaps and not has_progress and update.before == update.after:
            return None
        at = head.next_recorded_at(self._clock.now())
        change_data = [(GapHealed if gap.healed_at else GapOpened)(provider, gap) for gap in gap_changes.gaps]
        commit = Commit.of_changes(head, change_data, at)
        repair_times = [due for due in (connection.repair_at, next_repair_at(gap_changes.gaps, at)) if due]
        after = replace(connection, repair_at=min(repair_times, default=None))
        return replace(
            commit,
            head=replace(
                commit.head, gaps_checked_until={**head.gaps_checked_until, provider: gap_changes.checked_until}
            ),
            gap_months=update_months(months, provider, gap_changes.gaps),
            connection_update=replace(update, after=after),
        )
