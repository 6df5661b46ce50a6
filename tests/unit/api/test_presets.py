"""CSV presets: files as iglu, GluPredKit and readers of Clarity exports expect them, in local time."""

import csv
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import msgspec
import pytest

from bg_ingest.domain.ids import UserId
from bg_ingest.domain.readings import Flag
from tests.harness.api import ApiHarness, reading

SPAN = {"from": "2026-03-01", "to": "2026-03-03"}
BERLIN = {"zone": "Europe/Berlin"}


async def get_preset(api: ApiHarness, preset: str, **query: str) -> list[list[str]]:
    answer = await api.http.get("/api/bg/ada", params=SPAN | {"preset": preset} | query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/csv; header=present")
    return list(csv.reader(StringIO(answer.text, newline="")))


async def add_readings(api: ApiHarness) -> None:
    await api.add_readings(
        msgspec.structs.replace(reading(-4), glucose_mg_dl=39, flag=Flag.LOW),
        reading(-3, 120),
        msgspec.structs.replace(reading(-3, 130), measured_at=reading(-3).measured_at + timedelta(minutes=2)),
        msgspec.structs.replace(reading(-1), glucose_mg_dl=401, flag=Flag.HIGH, utc_offset_seconds=-3600),
    )


async def test_iglu_has_local_times_and_numbers_only(api: ApiHarness) -> None:
    await add_readings(api)
    assert await get_preset(api, "iglu", **BERLIN) == [
        ["id", "time", "gl"],
        ["ada", "2026-03-02 12:40:00", "39"],
        ["ada", "2026-03-02 12:45:00", "120"],
        ["ada", "2026-03-02 12:47:00", "130"],
        ["ada", "2026-03-02 12:55:00", "401"],
    ]
    own = await get_preset(api, "iglu")
    assert [row[1][11:16] for row in own[1:]] == ["11:40", "11:45", "11:47", "10:55"]


async def test_glupredkit_has_a_grid_with_means_and_empty_slots(api: ApiHarness) -> None:
    await add_readings(api)
    assert await get_preset(api, "glupredkit", **BERLIN) == [
        ["date", "id", "CGM"],
        ["2026-03-02 12:40:00", "ada", "39"],
        ["2026-03-02 12:45:00", "ada", "125"],
        ["2026-03-02 12:50:00", "ada", ""],
        ["2026-03-02 12:55:00", "ada", "401"],
    ]


async def test_the_grid_ascends_where_a_clock_is_set_back(api: ApiHarness) -> None:
    api.clock.advance(datetime(2026, 10, 26, tzinfo=UTC) - api.clock.now())
    noon = reading(0).measured_at
    midnight = datetime(2026, 10, 25, tzinfo=UTC)  # 02:00 in Berlin; at 01:00 UTC it is 02:00 again
    first = (midnight - noon) // timedelta(minutes=5)
    await api.add_readings(*(reading(first + number, 100 + 10 * (number >= 12)) for number in range(30)))
    rows = await get_preset(api, "glupredkit", **BERLIN, **{"from": "2026-10-24", "to": "2026-10-26"})
    times = [row[0] for row in rows[1:]]
    assert times == sorted(set(times))
    assert (times[0], times[-1]) == ("2026-10-25 02:00:00", "2026-10-25 03:25:00")
    assert [row[2] for row in rows[1:]] == ["105"] * 12 + ["110"] * 6


async def test_clarity_has_the_headers_of_an_export_and_bounds_as_text(api: ApiHarness) -> None:
    await add_readings(api)
    rows = await get_preset(api, "clarity", **BERLIN)
    assert rows[1][2:5] == ["FirstName", "", "ada"]
    readings = [row for row in rows if row[2] == "EGV"]
    assert [(row[1], row[7]) for row in readings] == [
        ("2026-03-02T12:40:00", "Low"),
        ("2026-03-02T12:45:00", "120"),
        ("2026-03-02T12:47:00", "130"),
        ("2026-03-02T12:55:00", "High"),
    ]
    assert [row[0] for row in rows[1:]] == [str(number) for number in range(1, len(rows))]


async def test_users_of_a_dataset_follow_each_other(api: ApiHarness) -> None:
    await add_readings(api)
    await api.add_readings(reading(-10, 99), reading(-8, 101), user=UserId("ben"))
    api.clock.advance(timedelta(minutes=2))
    body: dict[str, Any] = {"users": ["ben", "ada"], "from": "2026-03-01", "zone": "UTC"}
    answers = {
        preset: (await api.http.post("/api/dataset", json=body | {"preset": preset})).text.splitlines()
        for preset in ("iglu", "glupredkit", "clarity")
    }
    assert [line.split(",")[0] for line in answers["iglu"]] == ["id", *["ada"] * 4, *["ben"] * 2]
    assert [line.split(",")[1] for line in answers["glupredkit"]] == ["id", *["ada"] * 4, *["ben"] * 3]
    assert [line.split(",")[4] for line in answers["clarity"] if "FirstName" in line] == ["ada", "ben"]


@pytest.mark.parametrize(
    ("query", "status", "problem"),
    [
        ({"preset": "excel"}, 400, "invalid-preset"),
        ({"preset": "iglu", "versions": "all"}, 400, "invalid-versions"),
        ({"preset": "iglu", "zone": "Mars/Base"}, 400, "invalid-zone"),
    ],
    ids=str,
)
async def test_a_wrong_preset_is_refused(api: ApiHarness, query: dict[str, str], status: int, problem: str) -> None:
    await add_readings(api)
    answer = await api.http.get("/api/bg/ada", params=SPAN | query)
    assert (answer.status_code, answer.json()["type"]) == (status, problem)


async def test_a_preset_is_csv_only(api: ApiHarness) -> None:
    await add_readings(api)
    answer = await api.http.get("/api/bg/ada", params=SPAN | {"preset": "iglu"}, headers={"Accept": "application/json"})
    assert (answer.status_code, answer.json()["type"]) == (406, "not-acceptable")
