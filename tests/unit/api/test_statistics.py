"""Routes of statistics, profile and series: defaults, parameters at and outside their limits, and tags."""

from datetime import timedelta
from typing import Any

import pytest

from tests.harness.api import ADA, ApiHarness, reading

BG = "/api/bg/ada"
ROUTES = ("statistics", "statistics/daily", "profile", "series")


async def get(api: ApiHarness, route: str, status: int = 200, **query: str) -> dict[str, Any]:
    parameters = {name.rstrip("_"): value for name, value in query.items()}
    answer = await api.http.get(f"{BG}/{route}", params=parameters)
    assert answer.status_code == status, answer.text
    fields: dict[str, Any] = answer.json()
    return fields


async def test_statistics_cover_the_last_14_days_by_default(api: ApiHarness) -> None:
    await api.add_readings(*(reading(-number, 100 + number) for number in range(1, 7)))
    answer = await get(api, "statistics")
    assert (answer["from"], answer["to"]) == ("2026-02-16T12:00:00Z", "2026-03-02T12:00:00Z")
    assert (answer["user_id"], answer["zone"], answer["ranges"]) == ("ada", "own", "standard")
    assert (answer["readings"], answer["days"], answer["sufficient"]) == (6, 14.0, False)
    assert answer["mean_mg_dl"] == 103.5
    assert answer["percentiles_mg_dl"]["50"] == 103


async def test_days_profile_and_series_have_their_shapes(api: ApiHarness) -> None:
    await api.add_readings(*(reading(-number, 100 + number) for number in range(1, 7)))
    days = await get(api, "statistics/daily", zone="Europe/Berlin", from_="2026-03-02", to="2026-03-03")
    assert (days["from"], days["to"]) == ("2026-03-01T23:00:00Z", "2026-03-02T23:00:00Z")
    assert [(day["date"], day["seconds"], day["readings"]) for day in days["days"]] == [("2026-03-02", 46_800, 6)]
    profile = await get(api, "profile", bin="1h")
    assert (len(profile["profile"]), profile["bin_minutes"]) == (24, 60)
    assert profile["profile"][11] == {
        "time": "11:00", "readings": 6, "days": 1, "p5": 101, "p25": 102, "p50": 103, "p75": 105, "p95": 106
    }  # fmt: skip
    assert profile["profile"][0]["p50"] is None
    series = await get(api, "series", from_="2026-03-02T11:31:00Z", to="2026-03-02T12:00:00Z", bin="15m")
    assert series["bin_seconds"] == 900
    assert (series["n"], series["min"], series["max"]) == ([3, 3], [104, 101], [106, 103])


async def test_pregnancy_has_other_ranges_and_no_risk_index(api: ApiHarness) -> None:
    await api.add_readings(reading(-1, 63), reading(-2, 141))
    answer = await get(api, "statistics", ranges="pregnancy")
    assert answer["time_seconds"] == {"very_low": 0, "low": 0, "in_range": 300, "high": 300}
    assert answer["gri"] is None


@pytest.mark.parametrize(
    ("route", "query", "slug"),
    [
        ("statistics", {"zone": "Mars/Phobos"}, "invalid-zone"),
        ("statistics", {"zone": "../../etc/passwd"}, "invalid-zone"),
        ("statistics", {"zone": "America"}, "invalid-zone"),
        ("series", {"zone": "own"}, "invalid-zone"),
        ("statistics", {"ranges": "wide"}, "invalid-ranges"),
        ("statistics", {"from": "2025-02-01", "to": "2026-03-01"}, "invalid-range"),
        ("statistics", {"from": "2026-03-01", "to": "2026-03-01"}, "invalid-range"),
        ("statistics", {"from": "2026-03-01T00:00:00"}, "invalid-time"),
        ("statistics", {"bin": "1h"}, "unknown-parameter"),
        ("profile", {"bin": "3h"}, "invalid-bin"),
        ("series", {"bin": "2m"}, "invalid-bin"),
        ("series", {"bin": "1h", "points": "10"}, "invalid-bin"),
        ("series", {"points": "0"}, "invalid-bin"),
        ("series", {"points": "5001"}, "invalid-bin"),
        ("series", {"points": "1e3"}, "invalid-bin"),
        ("series", {"points": "٣"}, "invalid-bin"),
        ("series", {"points": "000000001999999"}, "invalid-bin"),
        ("series", {"points": "1" * 5_000}, "invalid-bin"),
        ("series", {"as_of_change": "99"}, "invalid-as-of"),
    ],
)
async def test_a_parameter_outside_its_limits_is_refused(
    api: ApiHarness, route: str, query: dict[str, str], slug: str
) -> None:
    await api.add_readings(reading(-1, 100))
    assert (await get(api, route, 400, **query))["type"] == slug


async def test_times_are_whole_seconds_and_repeat_the_answer(api: ApiHarness) -> None:
    await api.add_readings(reading(-2), reading(-1))
    api.clock.advance(timedelta(milliseconds=12_345))
    first = await get(api, "statistics", from_="2026-03-02T11:49:59.5Z")
    assert (first["from"], first["to"]) == ("2026-03-02T11:50:00Z", "2026-03-02T12:00:12Z")
    assert await get(api, "statistics", from_=first["from"], to=first["to"]) == first


async def test_366_days_are_possible(api: ApiHarness) -> None:
    await api.add_readings(reading(-1, 100))
    assert (await get(api, "statistics", from_="2025-03-01", to="2026-03-02"))["readings"] == 0


async def test_too_many_bins_name_the_smallest_possible_one(api: ApiHarness) -> None:
    await api.add_readings(reading(-1, 100))
    problem = await get(api, "series", 400, from_="2025-03-01", to="2026-03-01", bin="30m")
    assert (problem["type"], problem["smallest"]) == ("too-many-bins", "1h")
    hopeless = await get(api, "series", 400, from_="2000-01-01", to="2026-03-01", points="50")
    assert (hopeless["type"], hopeless["smallest"]) == ("too-many-bins", "1d")
    for parameters in ({"bin": "1d"}, {"points": "5000"}, {}):
        problem = await get(api, "series", 400, from_="1990-01-01", to="2026-03-01", **parameters)
        assert (problem["type"], "smallest" in problem) == ("too-many-bins", False), "13,208 days"
        assert "send a shorter window" in problem["detail"]


async def test_points_choose_the_smallest_bin_that_fits(api: ApiHarness) -> None:
    await api.add_readings(reading(-1, 100))
    for points, seconds in (("288", 300), ("287", 900), ("24", 3_600), ("1", 86_400)):
        series = await get(api, "series", from_="2026-03-01", to="2026-03-02", points=points)
        assert series["bin_seconds"] == seconds
        assert len(series["t"]) <= int(points)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("end", [{"to": "2026-03-02T11:00:00Z"}, {}])
async def test_an_unchanged_answer_is_304_until_a_change(api: ApiHarness, route: str, end: dict[str, str]) -> None:
    await api.add_readings(reading(-20, 100))
    first = await api.http.get(f"{BG}/{route}", params=end)
    headers = {"If-None-Match": first.headers["etag"]}
    assert (await api.http.get(f"{BG}/{route}", params=end, headers=headers)).status_code == 304
    await api.add_readings(reading(-21, 200))
    assert (await api.http.get(f"{BG}/{route}", params=end, headers=headers)).status_code == 200


@pytest.mark.parametrize("route", ROUTES)
async def test_an_unknown_and_an_erased_user_are_404(api: ApiHarness, route: str) -> None:
    assert (await get(api, route, 404))["type"] == "unknown"
    await api.add_readings(reading(-1, 100))
    await api.services.eraser.erase(ADA)
    assert (await get(api, route, 404))["type"] == "unknown"
