"""GET latest: the newest reading, at the cost of one read."""

import json
from datetime import timedelta

import pytest

from bg_ingest.domain.connections import ConnectionState
from tests.harness.api import ApiHarness, reading

LATEST = "/api/bg/ada/latest"


async def test_the_basic_view_is_as_promised_to_the_letter(api: ApiHarness) -> None:
    await api.add_readings(reading(-2, 90), reading(-1, 110))
    answer = await api.http.get(LATEST)
    assert answer.text == '{"timestamp":"2026-03-02T11:55:00Z","glucose_mg_dl":110}'
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "private, no-cache"


@pytest.mark.parametrize("view", ["", "?view=full"])
async def test_it_costs_one_read_of_the_store(api: ApiHarness, view: str) -> None:
    await api.add_readings(*(reading(-each) for each in range(1, 400)))
    reads, *written = api.table.asked
    assert (await api.http.get(LATEST + view)).status_code == 200
    assert api.table.asked == (reads + 1, *written)


async def test_an_unknown_user_and_one_without_readings_are_404_and_say_which(api: ApiHarness) -> None:
    unknown = await api.http.get(LATEST)
    await api.add_connection()
    nothing = await api.http.get(LATEST)
    assert (unknown.status_code, nothing.status_code) == (404, 404)
    assert unknown.headers["content-type"] == nothing.headers["content-type"] == "application/problem+json"
    assert "no such user" in unknown.json()["detail"]
    assert "no reading" in nothing.json()["detail"]


async def test_the_full_view_has_everything(api: ApiHarness) -> None:
    await api.add_readings(reading(-1, 110, trend="flat", trend_rate_mg_dl_min=0.3, utc_offset_seconds=3600))
    api.clock.advance(timedelta(seconds=12.5))
    full = (await api.http.get(LATEST, params={"view": "full"})).json()
    assert full.pop("next_expected_at").startswith("2026-03-02T12:00:")
    assert full == {
        "timestamp": "2026-03-02T11:55:00Z",
        "glucose_mg_dl": 110,
        "glucose_mmol_l": 6.1,
        "flag": "ok",
        "trend": "flat",
        "trend_rate_mg_dl_min": 0.3,
        "measured_at": "2026-03-02T11:55:00Z",
        "recorded_at": "2026-03-02T12:00:00Z",
        "utc_offset_seconds": 3600,
        "provider": "acme",
        "device": "g7/iOS",
        "sensor": "ef5fd6ee",
        "change": 1,
        "age_seconds": 312,
        "state": "live",
        "late_at": "2026-03-02T12:01:30Z",
        "gap_at": "2026-03-02T13:01:30Z",
    }


async def test_times_are_in_whole_seconds(api: ApiHarness) -> None:
    await api.add_readings(reading(-1))
    full = (await api.http.get(LATEST, params={"view": "full"})).json()
    for name in ("timestamp", "measured_at", "recorded_at", "next_expected_at"):
        assert len(full[name]) == len("2026-03-02T12:00:00Z"), name


async def test_a_paused_connection_says_so(api: ApiHarness) -> None:
    await api.add_connection(ConnectionState.PAUSED)
    await api.add_readings(reading(-1))
    full = (await api.http.get(LATEST, params={"view": "full"})).json()
    assert (full["state"], full["next_expected_at"]) == ("paused", None)


async def test_f32_a_reading_in_the_future_is_not_the_latest_before_its_time(api: ApiHarness) -> None:
    await api.add_readings(reading(-3, 90), reading(-2, 100), reading(2, 200), reading(1, 150))
    for value in (100, 100, 100, 100, 100, 150, 150, 150, 150, 150, 200):
        latest = (await api.http.get(LATEST)).json()
        assert latest["glucose_mg_dl"] == value
        api.clock.advance(timedelta(seconds=1))  # the end of a range is exclusive
        assert (await api.http.get("/api/bg/ada")).json()[-1] == latest
        api.clock.advance(timedelta(seconds=59))


async def test_f32_a_newer_true_reading_is_the_latest_before_the_future_one(api: ApiHarness) -> None:
    await api.add_readings(reading(2, 200))
    assert (await api.http.get(LATEST)).status_code == 404
    await api.add_readings(reading(-10_000, 90))
    assert (await api.http.get(LATEST)).json()["glucose_mg_dl"] == 90
    await api.add_readings(reading(-1, 100))
    full = (await api.http.get(LATEST + "?view=full")).json()
    assert (full["glucose_mg_dl"], full["age_seconds"]) == (100, 300)
    (of_many,) = (await api.http.get("/api/latest", params={"users": "ada", "view": "full"})).json()["readings"]
    assert of_many == {"user_id": "ada"} | full


async def test_f32_the_tag_changes_as_the_time_of_a_reading_comes(api: ApiHarness) -> None:
    await api.add_readings(reading(-1, 100), reading(1, 200))
    tags = []
    for minutes in (0, 4, 1):
        api.clock.advance(timedelta(minutes=minutes))
        tags.append((await api.http.get(LATEST)).headers["etag"])
    assert tags[0] == tags[1] != tags[2]


async def test_f32_lists_and_snapshots_show_the_same_newest_reading(api: ApiHarness) -> None:
    await api.add_readings(reading(-1, 100), reading(2, 200))
    full = (await api.http.get(LATEST + "?view=full")).json()
    lines = (await api.http.post("/api/changes", json={"after": {"ada": None}})).text.splitlines()
    assert json.loads(lines[0])["latest"] == full
    (row,) = (await api.http.get("/api/users?view=full")).json()["users"]
    assert (row["newest_reading_at"], row["state"]) == (full["measured_at"], full["state"])
