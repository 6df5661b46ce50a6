"""GET range: selection and order of readings, for every notation of the times."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from bg_ingest.domain.readings import Device, Flag
from tests.harness.api import DEVICE, ApiHarness, reading

RANGE = "/api/bg/ada"


async def get_range(api: ApiHarness, **query: str) -> list[tuple[str, int]]:
    names = {"start": "from", "end": "to", "view": "view"}
    answer = await api.http.get(RANGE, params={names[name]: value for name, value in query.items()})
    assert answer.status_code == 200, answer.text
    return [(each["timestamp"][11:16], each["glucose_mg_dl"]) for each in answer.json()]


async def test_it_is_an_array_of_basic_readings_ascending(api: ApiHarness) -> None:
    await api.add_readings(reading(-1, 111), reading(-3, 113), reading(-2, 112))
    answer = await api.http.get(RANGE)
    assert answer.text == (
        '[{"timestamp":"2026-03-02T11:45:00Z","glucose_mg_dl":113},'
        '{"timestamp":"2026-03-02T11:50:00Z","glucose_mg_dl":112},'
        '{"timestamp":"2026-03-02T11:55:00Z","glucose_mg_dl":111}]'
    )
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["vary"] == "Accept"


async def test_a_known_user_without_readings_has_none_and_an_unknown_one_is_404(api: ApiHarness) -> None:
    unknown = await api.http.get(RANGE)
    assert (unknown.status_code, unknown.json()["type"]) == (404, "unknown")
    await api.add_connection()
    assert (await api.http.get(RANGE)).text == "[]"
    assert (await api.http.get(RANGE, params={"from": "2020-01-01"})).text == "[]"


async def test_the_start_is_in_it_and_the_end_is_not(api: ApiHarness) -> None:
    await api.add_readings(*(reading(-each, 100 + each) for each in range(1, 7)))
    at_ends = await get_range(api, start="2026-03-02T11:40:00Z", end="2026-03-02T11:50:00Z")
    assert at_ends == [("11:40", 104), ("11:45", 103)]
    between = await get_range(api, start="2026-03-02T11:40:00.001Z", end="2026-03-02T11:50:00.001Z")
    assert between == [("11:45", 103), ("11:50", 102)]


async def test_by_default_it_is_the_day_before_now_or_before_the_end(api: ApiHarness) -> None:
    await api.add_readings(*(reading(-each, 40 + each) for each in (1, 144, 287, 288, 289, 320)))
    assert [value for _, value in await get_range(api)] == [328, 327, 184, 41]
    assert [value for _, value in await get_range(api, end="2026-03-02T11:55:00Z")] == [329, 328, 327, 184]


@pytest.mark.parametrize(
    "noon",
    [
        "2026-03-02T12:00:00Z",
        "2026-03-02t12:00:00z",
        "2026-03-02T13:00:00+01:00",
        "2026-03-02T13:00:00 01:00",
        "2026-03-02 13:00:00 01:00",
        "2026-03-02T06:30:00-05:30",
        "2026-03-02T12:00:00.000Z",
        "2026-03-02T11:59:59.9999999Z",
        "2026-03-02T12:00:00-00:00",
    ],
)
async def test_a_time_may_be_written_in_any_of_these_ways(api: ApiHarness, noon: str) -> None:
    await api.add_readings(reading(-1, 80), reading(0, 90), reading(1, 100))
    api.clock.advance(timedelta(hours=1))
    assert await get_range(api, start=noon) == [("12:00", 90), ("12:05", 100)]


async def test_a_plus_that_was_not_encoded_is_still_one(api: ApiHarness) -> None:
    await api.add_readings(reading(-1, 80), reading(0, 90))
    api.clock.advance(timedelta(hours=1))
    answer = await api.http.get(RANGE + "?from=2026-03-02T13:00:00+01:00")
    assert [each["glucose_mg_dl"] for each in answer.json()] == [90]


async def test_a_date_is_midnight_utc(api: ApiHarness) -> None:
    await api.add_readings(reading(-145, 80), reading(-144, 90), reading(-1, 100))
    assert await get_range(api, start="2026-03-02") == [("00:00", 90), ("11:55", 100)]
    assert await get_range(api, end="2026-03-02") == [("23:55", 80)]


async def test_the_widest_window_is_answered(api: ApiHarness) -> None:
    await api.add_readings(reading(-1, 80))
    assert await get_range(api, start="1970-01-01", end="2999-12-31") == [("11:55", 80)]


async def test_two_devices_are_merged_by_time(api: ApiHarness) -> None:
    watch = Device("acme", "account-1", "ab" * 32, "watch", "g7")
    second = msgspec.structs.replace(reading(-2, 95), device=watch)
    await api.add_readings(reading(-3, 100), second, reading(-1, 90))
    for view in ("basic", "full"):
        assert [value for _, value in await get_range(api, view=view)] == [100, 95, 90]


async def test_low_and_high_are_shown_by_value_and_flag(api: ApiHarness) -> None:
    low = msgspec.structs.replace(reading(-2, 39), flag=Flag.LOW)
    await api.add_readings(low, msgspec.structs.replace(reading(-1, 401), flag=Flag.HIGH))
    answer: list[dict[str, Any]] = (await api.http.get(RANGE, params={"view": "full"})).json()
    assert [(each["glucose_mg_dl"], each["flag"]) for each in answer] == [(39, "low"), (401, "high")]


async def test_the_full_view_has_what_latest_has_but_the_present(api: ApiHarness) -> None:
    await api.add_readings(reading(-1, 110, trend="flat"))
    (from_range,) = (await api.http.get(RANGE, params={"view": "full"})).json()
    latest = (await api.http.get(RANGE + "/latest", params={"view": "full"})).json()
    present = ("age_seconds", "next_expected_at", "state", "late_at", "gap_at")
    assert from_range | {name: latest[name] for name in present} == latest
    assert from_range["device"] == f"{DEVICE.generation}/{DEVICE.display}"
