"""A real person's readings, gaps included, go through the whole service unchanged."""

import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from bg_ingest.simulator import REPLAY_USER, SimulatorOptions
from tests.harness.service import open_service
from tests.unit.services.queries.test_statistics import CLARITY, check

EXPORT = Path(__file__).parents[3] / "shared" / "data" / "clarity-g6.csv"


@pytest.fixture
def exported() -> list[dict[str, object]]:
    """The export's readings as the API shows them."""
    if not EXPORT.exists():
        pytest.skip(f"no real readings here: {EXPORT.name} is expected in shared/data beside the project")
    with EXPORT.open(encoding="utf-8-sig", newline="") as lines:
        rows = [row for row in csv.reader(lines) if row[2] == "EGV"]
    words = {"Low": 39, "High": 401}
    return [{"timestamp": f"{row[1]}Z", "glucose_mg_dl": words.get(row[7]) or int(row[7])} for row in rows]


async def check_statistics(api: httpx.AsyncClient) -> None:
    """Assert the expected statistics, days, profile and series of the export."""

    async def get(route: str, **query: str) -> Any:
        answer = await api.get(f"/api/bg/joe/{route}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    window = CLARITY["window"]
    check(await get("statistics", **window), CLARITY["statistics"])
    for zone, expected in CLARITY["daily"].items():
        days = (await get("statistics/daily", **{"from": "2016-10-24"}, to="2016-11-02", zone=zone))["days"]
        assert [day["date"] for day in days] == [day["date"] for day in expected]
        for day, expected_day in zip(days, expected, strict=True):
            check(day, expected_day)
    profile = (await get("profile", **window, zone="UTC"))["profile"]
    for row, expected_row in zip(profile, CLARITY["profile_15_minutes"]["UTC"], strict=True):
        minute = expected_row["minute"]
        assert row == {k: v for k, v in expected_row.items() if k != "minute"} | {
            "time": f"{minute // 60:02}:{minute % 60:02}"
        }
    series = await get("series", **window, bin="1h")
    columns = zip(series["t"], series["min"], series["mean"], series["max"], series["n"], strict=True)
    by_start = {row[0]: row for row in columns}
    for second, lowest, mean, highest, count in CLARITY["series_1_hour"]["rows"]:
        near = None if mean is None else pytest.approx(mean, abs=0.0051)
        assert by_start[second] == (second, lowest, near, highest, count)


async def test_a_real_export_is_served_reading_by_reading(exported: list[dict[str, object]]) -> None:
    assert len(exported) == 2148
    simulated = SimulatorOptions(replay=EXPORT, zone="UTC", users=0)
    start = datetime(2016, 11, 20, 8, tzinfo=UTC)
    async with open_service(over_http=True, simulated=simulated, start=start) as service, service.running():
        await service.connect("joe", REPLAY_USER)
        await anyio.sleep(60)
        served = await service.api.get("/api/bg/joe", params={"from": "2016-01-01", "to": "2017-01-01"})
        assert served.json() == exported
        numbers = service.event_numbers("joe")
        assert numbers == list(range(1, len(numbers) + 1))
        await check_statistics(service.api)


async def test_published_events_rebuild_the_series(exported: list[dict[str, object]]) -> None:
    simulated = SimulatorOptions(replay=EXPORT, zone="UTC", users=0)
    start = datetime(2016, 11, 4, 0, tzinfo=UTC)
    async with open_service(over_http=True, simulated=simulated, start=start) as service, service.running():
        await service.connect("joe", REPLAY_USER)
        await anyio.sleep(60)
        assert service.published_readings("joe") == exported


async def test_f16b_phone_and_receiver_of_one_second_are_both_stored(tmp_path: Path) -> None:
    header = "Index,Timestamp (YYYY-MM-DDThh:mm:ss),Event Type,Source Device ID,Glucose Value (mg/dL)"
    export = tmp_path / "export.csv"
    devices = ("iPhone G6", "Dexcom Receiver")
    rows = [f"1,2016-11-04T0{hour}:00:00,EGV,{device},{100 + hour}" for hour in (1, 2, 3) for device in devices]
    export.write_text("\n".join((header, *rows)))
    simulated = SimulatorOptions(replay=export, users=0)
    start = datetime(2016, 11, 4, 12, tzinfo=UTC)
    async with open_service(over_http=True, simulated=simulated, start=start) as service, service.running():
        await service.connect("joe", REPLAY_USER)
        await anyio.sleep(60)
        window = {"from": "2016-11-04", "to": "2016-11-05"}
        shown = await service.api.get("/api/bg/joe", params=window)
        stored = await service.api.get("/api/bg/joe", params={**window, "devices": "all", "view": "full"})
    assert [reading["glucose_mg_dl"] for reading in shown.json()] == [101, 102, 103]
    assert sorted(reading["device"] for reading in stored.json()) == ["g6/iOS"] * 3 + ["g6/receiver"] * 3
