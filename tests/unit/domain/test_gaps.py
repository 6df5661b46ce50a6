"""Gaps and their months: number of missing readings, times of repair, and storage by month."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bg_ingest.domain.gaps import (
    MAX_REPAIRS,
    Cause,
    Gap,
    GapMonth,
    missing_count,
    month_start,
    next_repair_at,
    repair_window,
    update_months,
)
from bg_ingest.domain.windows import Window
from tests.fakes.clock import NOON

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
GAP = Gap(
    after=NOON,
    before=NOON + 45 * MINUTE,
    cadence_seconds=300,
    cause=Cause.PROVIDER_HAS_NOTHING,
    opened_at=NOON + 2 * HOUR,
)


@pytest.mark.parametrize(
    ("minutes", "count"), [(0.5, 0), (1, 0), (5, 0), (7.5, 0), (7.6, 1), (8, 1), (10, 1), (12.6, 2), (15, 2), (60, 11)]
)
def test_readings_are_missing_from_one_and_a_half_cadences_on(minutes: float, count: int) -> None:
    assert missing_count(NOON, NOON + minutes * MINUTE, 300) == count


def test_a_gap_starts_one_cadence_after_its_reading_and_ends_with_the_next() -> None:
    assert (GAP.start, GAP.missing) == (NOON + 5 * MINUTE, 8)
    assert msgspec.structs.replace(GAP, before=None).missing is None


def test_repairs_double_their_distance_and_end() -> None:
    delays, at = [], NOON
    while (due := next_repair_at([GAP], at)) is not None:
        delays.append((due - GAP.opened_at) / HOUR)
        at = due
    assert delays == [4 * 2**number for number in range(MAX_REPAIRS)] == [4, 8, 16, 32, 64, 128, 256, 512]


def test_the_earliest_repair_of_several_gaps_is_next() -> None:
    later = msgspec.structs.replace(GAP, opened_at=GAP.opened_at + HOUR)
    assert next_repair_at([later, GAP], NOON) == GAP.opened_at + 4 * HOUR
    assert next_repair_at([later, GAP], GAP.opened_at + 4 * HOUR) == later.opened_at + 4 * HOUR


@pytest.mark.parametrize(
    "gap",
    [
        msgspec.structs.replace(GAP, healed_at=NOON + DAY),
        msgspec.structs.replace(GAP, before=None),
        msgspec.structs.replace(GAP, opened_at=NOON + 40 * DAY),
    ],
    ids=["healed", "silence", "beyond the horizon"],
)
def test_a_gap_that_no_repair_can_fill_has_none(gap: Gap) -> None:
    assert next_repair_at([gap], NOON) is None
    assert repair_window([gap], NOON, NOON + 100 * DAY) is None


def test_the_window_of_a_repair_holds_both_adjacent_readings_of_each_due_gap() -> None:
    second = msgspec.structs.replace(GAP, after=NOON + 5 * HOUR, before=NOON + 6 * HOUR)
    much_later = msgspec.structs.replace(GAP, after=NOON - DAY, before=NOON - 23 * HOUR, opened_at=NOON + 9 * DAY)
    since, now = GAP.opened_at + 4 * HOUR, GAP.opened_at + 5 * HOUR
    window = repair_window([GAP, second, much_later], since, now)
    assert window == Window(NOON, NOON + 6 * HOUR + timedelta(seconds=1))
    assert repair_window([GAP, second], since + HOUR, now + HOUR) is None


def test_a_gap_belongs_to_the_month_of_the_reading_before_it() -> None:
    assert month_start(datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC)) == datetime(2026, 2, 1, tzinfo=UTC)


gaps = st.lists(
    st.integers(-60, 60).map(lambda days: msgspec.structs.replace(GAP, after=NOON + days * DAY, before=None)),
    unique_by=lambda gap: gap.after,
)


@pytest.mark.slow
@given(gaps, gaps)
def test_changed_gaps_are_merged_into_their_months_by_the_reading_before(stored: list[Gap], changed: list[Gap]) -> None:
    known = update_months([], "acme", stored)
    healed = [msgspec.structs.replace(gap, healed_at=NOON) for gap in changed]
    months = update_months(known, "acme", healed)
    assert [month.month for month in months] == sorted({month_start(gap.after) for gap in healed})
    merged: dict[datetime, GapMonth] = {month.month: month for month in (*known, *months)}
    all_gaps = [gap for _, month in sorted(merged.items()) for gap in month.gaps]
    expected = {gap.after: gap for gap in (*stored, *healed)}
    assert all_gaps == [expected[after] for after in sorted(expected)]
    versions = {month.month: month.version for month in known}
    assert all(month.version == versions.get(month.month, 0) + 1 for month in months)
