"""Readings: their identity, their versions, and the choice among the displays of a sensor."""

from datetime import timedelta

import msgspec
import pytest

from bg_ingest.domain.readings import Flag, StoredReading, clamp_to_range, display_rank
from tests.fakes.clock import NOON
from tests.harness.sample_values import DEVICE, reading

PHONE, RECEIVER = DEVICE, msgspec.structs.replace(DEVICE, display="receiver")
OTHER_SENSOR = msgspec.structs.replace(DEVICE, transmitter="cd" * 32)


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
    others.append(reading(0, device=msgspec.structs.replace(DEVICE, provider="other")))
    assert len({reading(0).identity, *(other.identity for other in others)}) == 5


def test_f7_a_transmitter_identifies_the_reading_in_every_account_and_without_one_the_account_does() -> None:
    accounts = [msgspec.structs.replace(DEVICE, provider_account=f"account-{number}") for number in (1, 2)]
    nameless = [msgspec.structs.replace(device, transmitter=None) for device in accounts]
    assert len({reading(0, device=device).identity for device in accounts}) == 1
    assert len({device.sensor for device in accounts}) == 1
    assert len({reading(0, device=device).identity for device in nameless}) == 2
    assert len({device.sensor for device in nameless}) == 2


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
