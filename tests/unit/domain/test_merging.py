"""Choice of the shown readings among displays of a sensor, repeated values, and parts of a series."""

from collections.abc import Sequence
from datetime import timedelta
from operator import attrgetter
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bg_ingest.domain.merging import (
    DISPLAY_SECONDS,
    REPEAT_SECONDS,
    SegmentRows,
    choose_rows,
    closest_rows,
    newest_shown,
    select_shown,
    split_displays,
)
from bg_ingest.domain.readings import Device, StoredReading
from tests.fakes.clock import NOON
from tests.harness.sample_values import DEVICE, reading

PHONE, RECEIVER = DEVICE, msgspec.structs.replace(DEVICE, display="receiver")
WATCH = msgspec.structs.replace(DEVICE, display="watch")
OTHER_SENSOR = msgspec.structs.replace(DEVICE, transmitter="cd" * 32)
DISPLAYS = (PHONE, RECEIVER, WATCH)


def stored(number: int, value: int = 110, *, device: Device = PHONE) -> StoredReading:
    return StoredReading(reading(number, value, device=device), NOON, 1)


def at(second: int, value: int = 110, device: Device = PHONE) -> StoredReading:
    measured = msgspec.structs.replace(reading(0, value, device=device), measured_at=NOON + timedelta(seconds=second))
    return StoredReading(measured, NOON, 1)


def show(readings: Sequence[StoredReading]) -> list[StoredReading]:
    return select_shown(readings, attrgetter("reading"))


def seconds(readings: Sequence[StoredReading]) -> list[tuple[int, str]]:
    return [(int((each.reading.measured_at - NOON).total_seconds()), each.reading.device.display) for each in readings]


def test_of_two_displays_of_one_sensor_the_first_by_name_is_shown() -> None:
    both = [stored(0, 110), stored(0, 112, device=RECEIVER), stored(1, 120, device=RECEIVER)]
    assert [shown.reading.glucose_mg_dl for shown in show(both)] == [110, 120]
    reversed_order = [stored(0, 112, device=RECEIVER), stored(0, 110), stored(1, 120, device=RECEIVER)]
    assert list(show(reversed_order)) == list(show(both))


def test_two_sensors_worn_at_once_are_both_shown() -> None:
    both = [stored(0, 110), stored(0, 150, device=OTHER_SENSOR)]
    assert list(show(both)) == both


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([PHONE, RECEIVER, OTHER_SENSOR])), unique=True))
def test_the_newest_reading_does_not_depend_on_the_order(rows: list[tuple[int, Device]]) -> None:
    readings = [stored(number, device=device) for number, device in rows]
    shuffled = readings[:]
    Random(7).shuffle(shuffled)
    newest = newest_shown(readings)
    assert newest == newest_shown(shuffled)
    assert (newest.reading.measured_at if newest else None) == max(
        (candidate.reading.measured_at for candidate in readings), default=None
    )


def test_of_equal_newest_readings_the_first_wins() -> None:
    revision = stored(0, 115)
    assert newest_shown([revision, stored(0, 110)]) is revision


def test_f22_a_watch_that_is_seconds_behind_the_phone_only_fills_its_gaps() -> None:
    phone = [at(300 * slot, 110 + slot) for slot in (0, 1, 3)]
    watch = [at(300 * slot + 9, 111 + slot, WATCH) for slot in range(4)]
    both = sorted([*phone, *watch], key=attrgetter("reading.measured_at"))
    assert seconds(show(both)) == [(0, "iOS"), (300, "iOS"), (609, "watch"), (900, "iOS")]


@pytest.mark.parametrize(("apart", "shown"), [(0, 1), (9, 1), (-9, 1), (150, 1), (-150, 1), (151, 2), (-151, 2)])
def test_f22_displays_are_merged_within_half_a_cadence_before_and_after(apart: int, shown: int) -> None:
    both = sorted([at(0), at(apart, 120, WATCH)], key=attrgetter("reading.measured_at"))
    assert len(show(both)) == shown
    assert at(0) in show(both)


@pytest.mark.parametrize(
    ("rows", "shown"),
    [
        ([(0, 110), (30, 110)], [0]),
        ([(0, 110), (31, 110)], [0, 31]),
        ([(0, 110), (10, 111)], [0, 10]),
        ([(0, 110), (10, 111), (20, 110)], [0, 10]),
        ([(0, 110), (20, 110), (40, 110)], [0, 40]),
    ],
)
def test_f22_of_equal_values_of_one_display_the_earlier_is_shown(rows: list[tuple[int, int]], shown: list[int]) -> None:
    assert [second for second, _ in seconds(show([at(*row) for row in rows]))] == shown


def test_f22_what_another_sensor_or_account_without_sensor_shows_is_not_merged() -> None:
    nameless = [msgspec.structs.replace(DEVICE, transmitter=None, provider_account=name) for name in "ab"]
    all_shown = [at(0), at(1, 111, OTHER_SENSOR), at(2, 112, nameless[0]), at(3, 113, nameless[1])]
    assert show(all_shown) == all_shown


def test_f7_a_reading_stored_twice_for_two_accounts_is_shown_once() -> None:
    accounts = [msgspec.structs.replace(DEVICE, provider_account=name) for name in "ab"]
    assert show([at(0, 110, accounts[0]), at(0, 115, accounts[1])]) == [at(0, 110, accounts[0])]


series = st.lists(
    st.builds(at, st.integers(0, 40).map(lambda step: step * 30), st.integers(110, 112), st.sampled_from(DISPLAYS)),
    unique_by=lambda stored: stored.reading.identity,
).map(lambda readings: sorted(readings, key=attrgetter("reading.measured_at")))


@pytest.mark.slow
@given(series, st.randoms(use_true_random=False))
def test_f22_every_hidden_reading_has_a_shown_one_beside_it_in_any_order_of_arrival(
    readings: list[StoredReading], random: Random
) -> None:
    shown = show(readings)
    for hidden in (each for each in readings if each not in shown):
        near = [(each, abs((each.reading.measured_at - hidden.reading.measured_at).total_seconds())) for each in shown]
        assert any(
            apart <= (REPEAT_SECONDS if each.reading.device == hidden.reading.device else DISPLAY_SECONDS)
            for each, apart in near
        )
    shuffled = random.sample(readings, len(readings))
    resorted = sorted(shuffled, key=lambda each: (each.reading.measured_at, each.reading.device.display))
    assert sorted(map(repr, show(resorted))) == sorted(map(repr, shown))


two_displays = st.lists(
    st.builds(
        at, st.integers(0, 200).map(lambda step: step * 29), st.integers(110, 300), st.sampled_from((PHONE, WATCH))
    ),
    unique_by=lambda stored: stored.reading.measured_at,
).map(lambda readings: sorted(readings, key=attrgetter("reading.measured_at")))


@pytest.mark.slow
@given(two_displays, st.integers(1, 5))
def test_f22_parts_of_a_series_show_the_same_as_the_whole(readings: list[StoredReading], hours: int) -> None:
    """Values differ, so that no chain of equal values crosses the ends of a part."""
    unequal = [
        at(second, 100 + number, PHONE if display == "iOS" else WATCH)
        for number, (second, display) in enumerate(seconds(readings))
    ]
    length = hours * 400
    parts: dict[int, list[StoredReading]] = {}
    for each, (second, _) in zip(unequal, seconds(unequal), strict=True):
        parts.setdefault(second // length, []).append(each)
    segments = [segment(part) for _, part in sorted(parts.items())]
    padded = [None, *segments, None]
    rows = [row[2] for i, part in enumerate(segments, 1) for row in choose_rows(padded[i - 1], part, padded[i + 1])]
    assert rows == show(unequal)


def segment(readings: Sequence[StoredReading]) -> SegmentRows:
    streams = split_displays(readings, attrgetter("reading"))
    return SegmentRows(streams, closest_rows(streams))


def test_f22_latest_is_the_newest_shown_reading() -> None:
    assert newest_shown([at(9, 111, WATCH), at(0)]) == at(0)
    assert newest_shown([at(309, 111, WATCH), at(0)]) == at(309, 111, WATCH)
    assert newest_shown([at(20), at(0)]) == at(0)
