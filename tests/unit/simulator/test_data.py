"""Data endpoints: pages of readings by window; record ids, times and user ids in Dexcom's shapes."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.harness.simulator_visitor import SetClock, bare
from tests.unit.simulator.conftest import Visit

FIELDS = {
    *("recordId", "systemTime", "displayTime", "transmitterId", "transmitterTicks", "value", "status", "trend"),
    *("trendRate", "unit", "rateUnit", "displayDevice", "transmitterGeneration"),
}


async def test_a_page_contains_the_true_readings_newest_first(visit: Visit, clock: SetClock) -> None:
    visitor = visit()
    await visitor.connect("SandboxUser2")
    start = clock.at - timedelta(days=2)
    answer = await visitor.window(start, clock.at)
    page = answer.json()
    assert (page["recordType"], page["recordVersion"]) == ("egv", "3.0")
    assert all(set(record) == FIELDS for record in page["records"])
    values = [(record["systemTime"], record["value"], record["status"]) for record in reversed(page["records"])]
    truth = visitor.simulator.truth("SandboxUser2", start, clock.at, clock.at)
    assert values == [(f"{bare(r.measured_at)}Z", r.glucose_mg_dl, r.flag.value) for r in truth]
    assert len(values) > 500


async def test_both_ends_of_a_window_are_included(visit: Visit, clock: SetClock) -> None:
    visitor = visit()
    await visitor.connect()
    newest, before = (await visitor.records(clock.at - timedelta(hours=1), clock.at))[:2]
    ends = [datetime.fromisoformat(record["systemTime"]) for record in (before, newest)]
    assert await visitor.records(*ends) == [newest, before]
    assert await visitor.records(ends[1], ends[1]) == [newest]


@pytest.mark.slow
async def test_a_window_may_last_thirty_days_and_not_a_second_more(visit: Visit, clock: SetClock) -> None:
    visitor = visit()
    await visitor.connect()
    start = clock.at - timedelta(days=30)
    assert len(await visitor.records(start, clock.at)) > 8000
    assert (await visitor.window(start - timedelta(seconds=1), clock.at)).status_code == 400


@pytest.mark.parametrize(
    "dates",
    [
        {},
        {"startDate": "2026-06-30T00:00:00"},
        {"startDate": "", "endDate": ""},
        {"startDate": "2026-06-30T00:00:00Z", "endDate": "2026-07-01T00:00:00Z"},
        {"startDate": "2026-6-9T0:00:00", "endDate": "2026-6-9T1:00:00"},
        {"startDate": "2026-06-30T00:00", "endDate": "2026-07-01T00:00"},
        {"startDate": "2026-06-31T00:00:00", "endDate": "2026-07-01T00:00:00"},
        {"startDate": "2026-07-01T00:00:01", "endDate": "2026-07-01T00:00:00"},
    ],
)
async def test_missing_malformed_or_reversed_dates_are_refused(visit: Visit, dates: dict[str, str]) -> None:
    visitor = visit()
    await visitor.connect()
    assert (await visitor.get("egvs", **dates)).status_code == 400


async def test_a_reading_is_visible_after_its_delay(visit: Visit, clock: SetClock) -> None:
    visitor = visit(delay_seconds=3600)
    await visitor.connect()
    start = clock.at - timedelta(hours=3)
    shown = await visitor.records(start, clock.at)
    newest = datetime.fromisoformat(shown[0]["systemTime"])
    assert timedelta(hours=1) <= clock.at - newest < timedelta(hours=1, minutes=6)
    clock.at = newest + timedelta(minutes=5, hours=1, seconds=2)
    later = await visitor.records(start, clock.at)
    assert later[1:] == shown
    clock.at = datetime.fromisoformat(later[0]["systemTime"]) + timedelta(hours=1, seconds=-1)
    assert await visitor.records(start, clock.at) == shown


async def test_record_ids_are_stable_and_distinct(visit: Visit, clock: SetClock) -> None:
    visitor = visit()
    await visitor.connect()
    window = clock.at - timedelta(days=1), clock.at - timedelta(minutes=5)
    ids = [record["recordId"] for record in await visitor.records(*window)]
    assert len(set(ids)) == len(ids)
    clock.pass_time(minutes=1)
    assert [record["recordId"] for record in await visitor.records(*window)] == ids


async def test_phones_send_utc_offsets_and_receivers_none(visit: Visit, clock: SetClock) -> None:
    visitor = visit()
    window = clock.at - timedelta(hours=1), clock.at
    await visitor.connect("SandboxUser1")
    phone = (await visitor.records(*window))[0]
    assert phone["systemTime"].endswith("Z")
    assert phone["displayTime"].endswith("+02:00"), "Berlin in summer"
    await visitor.connect("SandboxUser4")
    receiver = (await visitor.records(*window))[0]
    assert receiver["displayDevice"] == "receiver"
    system, display = (datetime.fromisoformat(receiver[name]) for name in ("systemTime", "displayTime"))
    assert system.tzinfo is display.tzinfo is None
    assert display - system == timedelta(hours=-7), "Los Angeles in summer"


async def test_a_user_has_one_id_per_client(visit: Visit) -> None:
    visitor, foreign = visit(), visit(seed=2)
    ids = set()
    for number in (1, 2):
        await visitor.connect(f"SandboxUser{number}")
        at = datetime(2026, 6, 1, tzinfo=UTC)
        user_id = (await visitor.window(at, at)).json()["userId"]
        assert (await visitor.get("dataRange")).json()["userId"] == user_id
        assert len(user_id) == 64
        assert int(user_id, 16)
        ids.add(user_id)
    await foreign.connect("SandboxUser1")
    ids.add((await foreign.get("dataRange")).json()["userId"])
    assert len(ids) == 3
