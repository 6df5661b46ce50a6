"""Readings: their identity, their versions, and the choice among the displays of a sensor."""

from datetime import timedelta
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bg_ingest.domain.readings import (
    Device,
    Flag,
    StoredReading,
    clamp_to_range,
    display_rank,
    newest_reading,
    select_one_per_sensor,
)
from tests.fakes.clock import NOON
from tests.harness.sample_values import DEVICE, reading

PHONE, RECEIVER = DEVICE, msgspec.structs.replace(DEVICE, display="receiver")
OTHER_SENSOR = msgspec.structs.replace(DEVICE, transmitter="cd" * 32)


def stored(number: int, value: int = 110, *, device: Device = PHONE) -> StoredReading:
    return StoredReading(reading(number, value, device=device), NOON, 1)


@pytest.mark.parametrize(
    ("mg_dl", "clamped"),
    [
        (-10, (39, Flag.LOW)),
        (39.4, (39, Flag.LOW)),
        (39.6, (40, Flag.OK)),
        (40, (40, Flag.OK)),
        (110.4, (110, Flag.OK)),
        (400.4, (400, Flag.OK)),
        (400.6, (401, Flag.HIGH)),
        (10_000, (401, Flag.HIGH)),
    ],
)
def test_a_value_beyond_the_display_range_becomes_low_or_high(mg_dl: float, clamped: tuple[int, Flag]) -> None:
    assert clamp_to_range(mg_dl) == clamped


def test_the_identity_has_no_value_and_no_generation() -> None:
    same = reading(0, 200, trend="flat", device=msgspec.structs.replace(DEVICE, generation="g6"))
    assert same.identity == reading(0).identity
    others = [reading(1), reading(0, device=RECEIVER), reading(0, device=OTHER_SENSOR)]
    others.append(reading(0, device=msgspec.structs.replace(DEVICE, provider_account="account-2")))
    assert len({reading(0).identity, *(other.identity for other in others)}) == 5


def test_only_value_and_flag_make_a_revision() -> None:
    assert reading(0).same_value(reading(0, trend="flat"))
    assert not reading(0).same_value(reading(0, 111))
    assert not reading(0).same_value(msgspec.structs.replace(reading(0), flag=Flag.HIGH))


def test_a_version_restores_the_reading_of_its_time() -> None:
    first = StoredReading(reading(0, 100, trend="flat", utc_offset_seconds=3600), NOON, 1)
    second = StoredReading(reading(0, 105), NOON + timedelta(hours=1), 2, (first.version,))
    third = StoredReading(reading(0, 110), NOON + timedelta(hours=2), 3, (*second.earlier, second.version))
    assert third.at_version(0) == first
    assert third.at_version(1) == second


def test_a_sensor_name_distinguishes_sensors_without_their_serial_numbers() -> None:
    assert PHONE.transmitter is not None
    assert PHONE.sensor_name == RECEIVER.sensor_name != OTHER_SENSOR.sensor_name
    assert len(PHONE.sensor_name or "") == 8
    assert (PHONE.sensor_name or "") not in PHONE.transmitter
    assert msgspec.structs.replace(PHONE, transmitter=None).sensor_name is None


@pytest.mark.parametrize(("first", "second"), [("android", "receiver"), ("iOS", "receiver"), ("Android", "iOS")])
def test_phones_come_before_a_receiver(first: str, second: str) -> None:
    assert display_rank(first) < display_rank(second)


def test_of_two_displays_of_one_sensor_the_first_by_name_is_shown() -> None:
    both = [stored(0, 110), stored(0, 112, device=RECEIVER), stored(1, 120, device=RECEIVER)]
    assert [shown.reading.glucose_mg_dl for shown in select_one_per_sensor(both)] == [110, 120]
    reversed_order = [stored(0, 112, device=RECEIVER), stored(0, 110), stored(1, 120, device=RECEIVER)]
    assert list(select_one_per_sensor(reversed_order)) == list(select_one_per_sensor(both))


def test_two_sensors_worn_at_once_are_both_shown() -> None:
    both = [stored(0, 110), stored(0, 150, device=OTHER_SENSOR)]
    assert list(select_one_per_sensor(both)) == both


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([PHONE, RECEIVER, OTHER_SENSOR])), unique=True))
def test_the_newest_reading_does_not_depend_on_the_order(rows: list[tuple[int, Device]]) -> None:
    readings = [stored(number, device=device) for number, device in rows]
    shuffled = readings[:]
    Random(7).shuffle(shuffled)
    newest = newest_reading(readings)
    assert newest == newest_reading(shuffled)
    assert (newest.reading.measured_at if newest else None) == max(
        (candidate.reading.measured_at for candidate in readings), default=None
    )


def test_of_equal_newest_readings_the_first_wins() -> None:
    revision = stored(0, 115)
    assert newest_reading([revision, stored(0, 110)]) is revision
