"""Counts of a connection's days: stored, late, revised, quarantined and missing readings."""

from collections import Counter
from datetime import date, timedelta
from time import process_time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bg_ingest.domain.completeness import Day, DayCounter, Punctuality
from bg_ingest.domain.gaps import Cause, Gap
from bg_ingest.domain.readings import Device, StoredReading
from bg_ingest.domain.windows import Window
from tests.fakes.clock import NOON
from tests.harness.sample_values import DEVICE, reading

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
MIDNIGHT = NOON.replace(hour=0)
WINDOW = Window(MIDNIGHT, MIDNIGHT + 2 * DAY)
PUNCTUALITY = Punctuality(since=MIDNIGHT, max_delay=30 * MINUTE)
GAP = Gap(after=NOON, before=NOON + 20 * MINUTE, cadence_seconds=300, cause=Cause.THROTTLED, opened_at=NOON)


def stored(number: int, delay: timedelta = MINUTE, *, device: Device = DEVICE) -> StoredReading:
    measured = reading(number, device=device)
    return StoredReading(measured, measured.measured_at + delay, 1)


def counter(window: Window = WINDOW) -> DayCounter:
    return DayCounter("acme", window, PUNCTUALITY, 300)


def test_a_complete_day_expects_the_readings_it_has() -> None:
    days = counter()
    days.add_readings([stored(number) for number in range(12)])
    days.add_readings([])
    days.add_readings([stored(number) for number in range(12, 20)])
    assert list(days.days()) == [
        Day(
            date=date(2026, 3, 2), provider="acme", expected=20, stored=20, late=0, revised=0, quarantined=0, missing={}
        )
    ]


def test_missing_readings_count_by_day_and_cause_within_the_window() -> None:
    days = counter(Window(NOON, NOON + DAY))
    across_midnight = msgspec.structs.replace(
        GAP, after=MIDNIGHT + DAY - 10 * MINUTE, before=MIDNIGHT + DAY + 10 * MINUTE, cause=Cause.SERVICE_DOWN
    )
    before_the_window = msgspec.structs.replace(GAP, after=NOON - 60 * MINUTE, before=NOON - 30 * MINUTE)
    days.add_gaps([GAP, across_midnight, before_the_window], until=NOON + DAY)
    assert [(day.date.day, day.expected, day.missing) for day in days.days()] == [
        (2, 4, {Cause.THROTTLED: 3, Cause.SERVICE_DOWN: 1}),
        (3, 2, {Cause.SERVICE_DOWN: 2}),
    ]


def test_a_silence_misses_the_readings_expected_so_far() -> None:
    days = counter()
    days.add_gaps([msgspec.structs.replace(GAP, before=None)], until=NOON + 15 * MINUTE)
    assert [day.missing for day in days.days()] == [{Cause.THROTTLED: 3}]


def test_a_second_display_of_a_sensor_counts_once() -> None:
    receiver = msgspec.structs.replace(DEVICE, display="receiver")
    days = counter()
    days.add_readings([stored(number, device=device) for number in range(10) for device in (DEVICE, receiver)])
    assert [day.stored for day in days.days()] == [10]


def test_revisions_and_quarantined_records_are_counted() -> None:
    revised = StoredReading(reading(0, 105), NOON + 60 * MINUTE, 2, (stored(0).version,))
    days = counter()
    days.add_readings([revised, stored(1)])
    days.add_quarantined(NOON, 2)
    days.add_quarantined(NOON + DAY, 1)
    assert [(day.revised, day.quarantined, day.expected) for day in days.days()] == [(1, 2, 2), (0, 1, 0)]


def test_a_reading_is_late_by_its_first_record_alone() -> None:
    assert not PUNCTUALITY.is_late(stored(0, 30 * MINUTE))
    late = stored(0, 31 * MINUTE)
    assert PUNCTUALITY.is_late(late)
    revised_later = StoredReading(reading(0, 105), NOON + DAY, 2, (stored(0).version,))
    assert not PUNCTUALITY.is_late(revised_later)


def test_a_reading_of_the_backfill_is_never_late() -> None:
    after = msgspec.structs.replace(PUNCTUALITY, since=NOON + MINUTE)
    assert not after.is_late(stored(0, 50 * DAY))
    assert after.is_late(stored(1, 50 * DAY))


def test_s4_the_cost_of_a_gap_grows_with_the_days_of_the_window_alone() -> None:
    began = process_time()
    days = counter(Window(MIDNIGHT, MIDNIGHT + 3_650 * DAY))
    silence = msgspec.structs.replace(GAP, before=None, cadence_seconds=1, after=MIDNIGHT - 3_650 * DAY)
    days.add_gaps([silence], until=MIDNIGHT + 3_650 * DAY)
    ended = msgspec.structs.replace(silence, before=MIDNIGHT + 30 * 365 * DAY, cause=Cause.SERVICE_DOWN)
    days.add_gaps([ended], until=MIDNIGHT)
    counted = list(days.days())
    assert len(counted) == 3_650
    assert all(day.missing == {Cause.THROTTLED: 86_400, Cause.SERVICE_DOWN: 86_400} for day in counted)
    assert process_time() - began < 1


@pytest.mark.slow
@given(
    after=st.integers(-500, 3_500),
    length=st.none() | st.integers(1, 4_000),
    cadence=st.integers(1, 700),
    start=st.integers(-100, 3_000),
    span=st.integers(1, 3_000),
    until=st.integers(-100, 4_000),
)
def test_s4_missing_readings_are_those_counted_one_by_one(
    after: int, length: int | None, cadence: int, start: int, span: int, until: int
) -> None:
    gap = msgspec.structs.replace(
        GAP,
        after=MIDNIGHT + after * MINUTE,
        before=None if length is None else MIDNIGHT + (after + length) * MINUTE,
        cadence_seconds=cadence * 60,
    )
    window, until_time = (
        Window(MIDNIGHT + start * MINUTE, MIDNIGHT + (start + span) * MINUTE),
        MIDNIGHT + until * MINUTE,
    )
    expected = Counter[date]()
    number = 0
    while (at := gap.start + number * cadence * MINUTE) < window.end:
        if (gap.missing is not None and number >= gap.missing) or (gap.missing is None and at > until_time):
            break
        expected[at.date()] += at in window
        number += 1
    days = counter(window)
    days.add_gaps([gap], until_time)
    assert {day.date: day.missing[Cause.THROTTLED] for day in days.days()} == dict(+expected)
