"""The data endpoints, as the provider's code will meet them."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.harness.simulator_visitor import SetClock, bare
from tests.unit.simulator.conftest import Visit

FIELDS = {
    *("recordId", "systemTime", "displayTime", "transmitterId", "transmitterTicks", "value", "status", "trend"),
    *("trendRate", "unit", "rateUnit", "displayDevice", "transmitterGeneration"),
}


async def test_a_page_says_what_was_measured_newest_first(visit: Visit, clock: SetClock) -> None:
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


async def test_record_ids_stay_and_differ(visit: Visit, clock: SetClock) -> None:
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


async def test_both_ends_of_a_window_are_included(visit: Visit, clock: SetClock) -> None:
    visitor = visit()
    await visitor.connect()
    newest, before = (await visitor.records(clock.at - timedelta(hours=1), clock.at))[:2]
    ends = [datetime.fromisoformat(record["systemTime"]) for record in (before, newest)]
    assert await visitor.records(*ends) == [newest, before]
    assert await visitor.records(ends[1], ends[1]) == [newest]


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


async def test_a_reading_shows_when_its_delay_has_passed(visit: Visit, clock: SetClock) -> None:
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


async def test_the_extent_is_of_what_is_shown(visit: Visit, clock: SetClock) -> None:
    visitor = visit(delay_seconds=3600, days_back=40)
    await visitor.connect()
    extent = (await visitor.get("dataRange")).json()
    assert (extent["recordType"], extent["calibrations"], extent["events"]) == ("dataRange", None, None)
    start, end = (datetime.fromisoformat(extent["egvs"][side]["systemTime"]) for side in ("start", "end"))
    assert timedelta(days=39, hours=18) < clock.at - start <= timedelta(days=40)
    newest = (await visitor.records(clock.at - timedelta(days=1), clock.at))[0]
    assert newest["systemTime"] == extent["egvs"]["end"]["systemTime"]
    assert newest["displayTime"] == extent["egvs"]["end"]["displayTime"]
    assert end <= clock.at - timedelta(hours=1)
    oldest = (await visitor.records(start - timedelta(days=20), start + timedelta(days=1)))[-1]
    assert oldest["systemTime"] == extent["egvs"]["start"]["systemTime"]


async def test_who_has_no_readings_has_no_extent(visit: Visit) -> None:
    visitor = visit(days_back=0)
    await visitor.connect()
    assert (await visitor.get("dataRange")).json()["egvs"] is None


async def test_readings_do_not_leave_at_the_old_end(visit: Visit, clock: SetClock) -> None:
    visitor = visit(days_back=10)
    await visitor.connect()
    before = (await visitor.get("dataRange")).json()["egvs"]["start"]
    clock.pass_time(days=20)
    await visitor.rotate()
    assert (await visitor.get("dataRange")).json()["egvs"]["start"] == before


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


async def test_every_answer_carries_the_clock_as_its_date(visit: Visit, clock: SetClock) -> None:
    visitor = visit()
    for answer in (await visitor.login(), await visitor.get("egvs"), await visitor.http.get("/nothing-here")):
        assert answer.headers.get_list("date") == ["Tue, 09 Jun 2026 12:00:00 GMT"], answer.request.url
    clock.pass_time(hours=1)
    assert (await visitor.login()).headers["date"] == "Tue, 09 Jun 2026 13:00:00 GMT"


async def test_calls_of_an_hour_are_limited_for_all_users_together(visit: Visit, clock: SetClock) -> None:
    visitor = visit(calls_per_hour=5)
    await visitor.connect("SandboxUser1")
    await visitor.connect("SandboxUser2")
    assert [(await visitor.get("dataRange")).status_code for _ in range(4)] == [200, 200, 200, 429]
    assert (await visitor.rotate()).status_code == 429
    clock.pass_time(minutes=59)
    assert (await visitor.get("dataRange")).status_code == 429
    clock.pass_time(minutes=1)
    assert (await visitor.get("dataRange")).status_code == 200
    limit = (await visitor.http.get("/admin/state")).json()["limit"]
    assert limit == {"calls_per_hour": 5, "taken": 1, "most_taken": 5, "refused": 3}


async def test_the_admin_shows_the_truth_to_tests_in_other_processes(visit: Visit, clock: SetClock) -> None:
    visitor = visit()
    window = {"user": "SandboxUser1", "start": bare(clock.at - timedelta(hours=1)), "end": bare(clock.at)}
    values = (await visitor.http.get("/admin/truth", params=window)).json()
    truth = visitor.simulator.truth("SandboxUser1", clock.at - timedelta(hours=1), clock.at)
    assert [reading["glucose_mg_dl"] for reading in values] == [reading.glucose_mg_dl for reading in truth]
    assert values
    assert (await visitor.http.get("/admin/truth", params=window | {"user": "Nobody"})).status_code == 400
    assert (await visitor.http.get("/admin/truth", params=window | {"start": "today"})).status_code == 400
