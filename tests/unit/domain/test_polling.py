"""Sums of poll results, the choice of the kind of fetch, and the gap check after it."""

from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from bg_ingest.domain.connections import Connection, PollDefaults
from bg_ingest.domain.freshness import GAP_AFTER, LATE_TOLERANCE
from bg_ingest.domain.polling import (
    ORIGINS,
    GapCheck,
    Outcome,
    PollKind,
    PollResult,
    PollState,
    choose_kind,
    gap_check_after,
    is_silent,
)
from bg_ingest.domain.schedule import Rhythm, SweepDepth
from bg_ingest.domain.windows import Window
from tests.fakes.clock import NOON
from tests.harness.sample_values import connection

READ = PollResult(Outcome.READ, 1, 2, 3, 4, 5, 6)
NOTHING_NEW = PollResult(Outcome.NOTHING_NEW, duplicates=9)


def test_all_counts_are_added() -> None:
    merged = READ.merge(READ)
    assert msgspec.structs.astuple(merged) == (Outcome.READ, 2, 4, 6, 8, 10, 12)


@pytest.mark.parametrize(
    ("earlier", "later", "outcome"),
    [
        (READ, NOTHING_NEW, Outcome.READ),
        (NOTHING_NEW, READ, Outcome.READ),
        (NOTHING_NEW, NOTHING_NEW, Outcome.NOTHING_NEW),
        (READ, PollResult(Outcome.FENCED), Outcome.FENCED),
    ],
)
def test_the_later_outcome_wins_unless_it_brought_nothing(
    earlier: PollResult, later: PollResult, outcome: Outcome
) -> None:
    assert earlier.merge(later).outcome is outcome


def test_every_kind_of_fetch_has_an_origin() -> None:
    assert set(ORIGINS) == set(PollKind)


MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
BACKFILL = Window(NOON - 90 * DAY, NOON - 30 * DAY)
NO_SWEEPS = PollDefaults(sweep_depth=SweepDepth(timedelta(0), timedelta(0)))


def polled(**fields: Any) -> Connection:
    return connection(**({"newest_reading_at": NOON - 5 * MINUTE, "connected_at": NOON - 10 * DAY} | fields))


@pytest.mark.parametrize(
    ("fields", "live_due", "defaults", "kind"),
    [
        ({}, NOON + MINUTE, NO_SWEEPS, None),
        ({}, NOON, NO_SWEEPS, PollKind.LIVE),
        ({"newest_reading_at": None, "backfill": BACKFILL}, NOON, NO_SWEEPS, PollKind.BACKFILL),
        ({"newest_reading_at": None}, NOON, NO_SWEEPS, PollKind.LIVE),
        ({"backfill": BACKFILL}, NOON, NO_SWEEPS, PollKind.LIVE),
        ({"backfill": BACKFILL}, NOON + MINUTE, NO_SWEEPS, PollKind.BACKFILL),
        ({"backfill": BACKFILL, "repair_at": NOON}, NOON + MINUTE, NO_SWEEPS, PollKind.REPAIR),
        ({"backfill": BACKFILL, "repair_at": NOON + MINUTE}, NOON + MINUTE, NO_SWEEPS, PollKind.BACKFILL),
        ({"backfill": BACKFILL, "repair_at": NOON}, NOON + MINUTE, PollDefaults(), PollKind.SWEEP),
        ({"swept_at": NOON}, NOON + MINUTE, PollDefaults(), None),
    ],
)
def test_live_comes_first_then_one_of_sweep_repair_and_backfill(
    fields: dict[str, Any], live_due: datetime, defaults: PollDefaults, kind: PollKind | None
) -> None:
    assert choose_kind(polled(**fields), defaults, live_due, NOON) is kind


RHYTHM = Rhythm(15 * MINUTE, 5 * MINUTE, HOUR, 0.5)
LONG_AGO = NOON - 5 * HOUR


def test_a_silence_is_reported_until_it_was_checked() -> None:
    silent = polled(newest_reading_at=LONG_AGO)
    assert is_silent(silent, GapCheck(), RHYTHM, NOON)
    assert is_silent(silent, GapCheck(silence_after=LONG_AGO - DAY), RHYTHM, NOON)
    assert not is_silent(silent, GapCheck(silence_after=LONG_AGO), RHYTHM, NOON)
    assert not is_silent(polled(newest_reading_at=None), GapCheck(), RHYTHM, NOON)
    assert not is_silent(polled(newest_reading_at=NOON - HOUR), GapCheck(), RHYTHM, NOON)


def test_readings_are_overdue_a_step_and_the_delay_after_the_newest() -> None:
    """The delay is an hour; the tolerance and the least length of a gap follow."""
    newest = NOON - HOUR - LATE_TOLERANCE - GAP_AFTER - 15 * MINUTE
    assert not is_silent(polled(newest_reading_at=newest), GapCheck(), RHYTHM, NOON)
    assert is_silent(polled(newest_reading_at=newest), GapCheck(), RHYTHM, NOON + MINUTE)


@pytest.mark.parametrize(
    ("kind", "fields", "late", "due"),
    [
        (PollKind.LIVE, {}, False, False),
        (PollKind.LIVE, {}, True, True),
        (PollKind.LIVE, {"newest_reading_at": LONG_AGO}, False, True),
        (PollKind.LIVE, {"suspected_gap_at": LONG_AGO}, False, True),
        (PollKind.LIVE, {"suspected_gap_at": NOON - HOUR}, False, False),
        (PollKind.LIVE, {"suspected_gap_at": LONG_AGO, "backfill": BACKFILL}, False, False),
        (PollKind.REPAIR, {}, False, False),
        (PollKind.SWEEP, {}, False, True),
        (PollKind.BACKFILL, {}, False, True),
        (PollKind.BACKFILL, {"backfill": BACKFILL}, False, False),
    ],
)
def test_a_fetch_makes_a_gap_check_due(kind: PollKind, fields: dict[str, Any], *, late: bool, due: bool) -> None:
    after = gap_check_after(kind, polled(**fields), GapCheck(LONG_AGO - DAY), RHYTHM, NOON, late=late)
    assert after == GapCheck(LONG_AGO - DAY, due)


def test_a_due_gap_check_stays_due() -> None:
    assert gap_check_after(PollKind.LIVE, polled(), GapCheck(due=True), RHYTHM, NOON, late=False).due


@pytest.mark.parametrize(
    ("watermark", "poll_at", "hours"),
    [
        (NOON + 4 * HOUR, NOON + 4 * HOUR, [12]),
        (NOON + HOUR, NOON + 4 * HOUR, [6, 12]),
        (NOON - 4 * HOUR, NOON + 4 * HOUR, []),
        (NOON + 4 * HOUR, NOON + 5 * HOUR, []),
        (None, NOON + 4 * HOUR, []),
    ],
    ids=["one", "two", "a long silence", "not due", "after a start"],
)
def test_a_due_live_poll_reads_the_newest_segments(watermark: datetime, poll_at: datetime, hours: list[int]) -> None:
    state = PollState(poll_at, watermark=watermark)
    segments = state.segments(PollDefaults(overlap=3 * HOUR), NOON + 4 * HOUR)
    assert sorted(start.hour for start in segments) == hours
