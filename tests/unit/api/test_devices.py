"""Two devices for one sensor, and two sensors at once: one answer, regardless of the order of arrival."""

from itertools import permutations

import msgspec
import pytest

from bg_ingest.domain.readings import Device, Reading
from tests.harness.api import DEVICE, ApiHarness, open_api, reading

RANGE = "/api/bg/ada"
RECEIVER = msgspec.structs.replace(DEVICE, display="receiver")
SECOND_SENSOR = Device("acme", "account-1", "cd" * 32, "iOS", "g7")


def reading_of(device: Device, number: int, value: int) -> Reading:
    return msgspec.structs.replace(reading(number, value), device=device)


async def get_range(api: ApiHarness, **query: str) -> list[tuple[str, int]]:
    answer = await api.http.get(RANGE, params=query)
    assert answer.status_code == 200, answer.text
    return [(each["timestamp"][11:16], each["glucose_mg_dl"]) for each in answer.json()]


@pytest.mark.parametrize("order", list(permutations([RECEIVER, DEVICE])), ids=str)
async def test_case_19_of_two_devices_for_one_sensor_the_phone_is_shown_in_either_order_of_arrival(
    order: tuple[Device, Device],
) -> None:
    async with open_api() as api:
        for device in order:
            worth = 100 if device is DEVICE else 200
            await api.add_readings(*(reading_of(device, -number, worth + number) for number in (3, 2, 1)))
        for view in ("basic", "full"):
            assert await get_range(api, view=view) == [("11:45", 103), ("11:50", 102), ("11:55", 101)]
        for query in ("", "?view=full"):
            assert (await api.http.get(f"{RANGE}/latest{query}")).json()["glucose_mg_dl"] == 101


async def test_the_other_device_fills_what_the_phone_missed(api: ApiHarness) -> None:
    await api.add_readings(reading_of(DEVICE, -3, 103), reading_of(DEVICE, -1, 101))
    await api.add_readings(*(reading_of(RECEIVER, -number, 200 + number) for number in (3, 2)))
    assert await get_range(api) == await get_range(api, view="full") == [("11:45", 103), ("11:50", 202), ("11:55", 101)]


@pytest.mark.parametrize("view", ["basic", "full"])
async def test_readings_of_all_devices_are_there_on_request(api: ApiHarness, view: str) -> None:
    await api.add_readings(reading_of(RECEIVER, -2, 200), reading_of(DEVICE, -2, 100), reading_of(DEVICE, -1, 101))
    everything = [("11:50", 100), ("11:50", 200), ("11:55", 101)]
    assert await get_range(api, devices="all", view=view) == everything
    assert await get_range(api, devices="one", view=view) == [everything[0], everything[2]]
    refused = await api.http.get(RANGE, params={"devices": "some"})
    assert (refused.status_code, refused.json()["type"]) == (400, "invalid-devices")


async def test_what_was_known_then_is_chosen_from_what_was_known_then(api: ApiHarness) -> None:
    await api.add_readings(reading_of(RECEIVER, -1, 200))
    await api.add_readings(reading_of(DEVICE, -1, 100))
    assert (
        await get_range(api, as_of_change="1")
        == await get_range(api, as_of_change="1", view="full")
        == [("11:55", 200)]
    )
    assert await get_range(api, as_of_change="2") == [("11:55", 100)]


async def test_readings_of_two_sensors_worn_at_once_are_all_shown_and_distinguishable(api: ApiHarness) -> None:
    await api.add_readings(
        reading_of(DEVICE, -2, 100), reading_of(SECOND_SENSOR, -2, 150), reading_of(SECOND_SENSOR, -1, 151)
    )
    assert await get_range(api) == [("11:50", 100), ("11:50", 150), ("11:55", 151)]
    full = (await api.http.get(RANGE, params={"view": "full"})).json()
    first, second, third = (each["sensor"] for each in full)
    assert first != second == third
    latest = (await api.http.get(RANGE + "/latest", params={"view": "full"})).json()
    assert (latest["glucose_mg_dl"], latest["sensor"]) == (151, third)


@pytest.mark.parametrize("order", list(permutations([DEVICE, SECOND_SENSOR])), ids=str)
async def test_latest_of_two_sensors_at_one_second_is_the_same_in_any_order(order: tuple[Device, Device]) -> None:
    async with open_api() as api:
        for device in order:
            await api.add_readings(reading_of(device, -1, 100 if device is DEVICE else 150))
        assert (await api.http.get(RANGE + "/latest")).json()["glucose_mg_dl"] == 100


async def test_a_revised_newest_reading_is_latest_at_once(api: ApiHarness) -> None:
    await api.add_readings(reading_of(DEVICE, -1, 100), reading_of(RECEIVER, -1, 200))
    await api.add_readings(reading_of(DEVICE, -1, 105), reading_of(RECEIVER, -1, 205))
    assert (await api.http.get(RANGE + "/latest")).json()["glucose_mg_dl"] == 105


async def test_readings_without_a_sensors_name_are_one_sensors(api: ApiHarness) -> None:
    nameless = [msgspec.structs.replace(each, transmitter=None) for each in (DEVICE, RECEIVER)]
    await api.add_readings(*(reading_of(device, -1, 100 + index) for index, device in enumerate(nameless)))
    assert await get_range(api) == [("11:55", 100)]
    (full,) = (await api.http.get(RANGE, params={"view": "full"})).json()
    assert full["sensor"] is None
