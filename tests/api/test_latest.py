"""GET latest: the newest reading, at the cost of one read."""

from datetime import timedelta

import pytest

from bg_ingest.domain.connections import State
from tests.api.desk import Desk, reading

LATEST = "/api/bg/ada/latest"


async def test_the_basic_view_is_as_promised_to_the_letter(desk: Desk) -> None:
    await desk.keep(reading(-2, 90), reading(-1, 110))
    answer = await desk.http.get(LATEST)
    assert answer.text == '{"timestamp":"2026-03-02T11:55:00Z","glucose_mg_dl":110}'
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "private, no-cache"


@pytest.mark.parametrize("view", ["", "?view=full"])
async def test_it_costs_one_read_of_the_store(desk: Desk, view: str) -> None:
    await desk.keep(*(reading(-each) for each in range(1, 400)))
    reads, *written = desk.table.asked
    assert (await desk.http.get(LATEST + view)).status_code == 200
    assert desk.table.asked == (reads + 1, *written)


async def test_an_unknown_user_and_one_without_readings_are_404_and_say_which(desk: Desk) -> None:
    unknown = await desk.http.get(LATEST)
    await desk.stand()
    nothing = await desk.http.get(LATEST)
    assert (unknown.status_code, nothing.status_code) == (404, 404)
    assert unknown.headers["content-type"] == nothing.headers["content-type"] == "application/problem+json"
    assert "no such user" in unknown.json()["detail"]
    assert "no reading" in nothing.json()["detail"]


async def test_the_full_view_tells_everything(desk: Desk) -> None:
    await desk.keep(reading(-1, 110, trend="flat", trend_rate_mg_dl_min=0.3, utc_offset_seconds=3600))
    desk.clock.advance(timedelta(seconds=12.5))
    full = (await desk.http.get(LATEST, params={"view": "full"})).json()
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
    }


async def test_times_are_told_in_whole_seconds(desk: Desk) -> None:
    await desk.keep(reading(-1))
    full = (await desk.http.get(LATEST, params={"view": "full"})).json()
    for name in ("timestamp", "measured_at", "recorded_at", "next_expected_at"):
        assert len(full[name]) == len("2026-03-02T12:00:00Z"), name


async def test_a_paused_connection_says_so(desk: Desk) -> None:
    await desk.stand(State.PAUSED)
    await desk.keep(reading(-1))
    full = (await desk.http.get(LATEST, params={"view": "full"})).json()
    assert (full["state"], full["next_expected_at"]) == ("paused", None)
