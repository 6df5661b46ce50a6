"""Extent of the readings, unknown users, and the call limit of an hour."""

from datetime import datetime, timedelta

import pytest

from bg_ingest.simulator import UnknownUser
from bg_ingest.simulator.faults import ReplyLost
from tests.harness.simulator_visitor import SetClock, Visitor
from tests.unit.simulator.conftest import Visit


@pytest.fixture
async def visitor(visit: Visit) -> Visitor:
    visitor = visit()
    await visitor.connect("SandboxUser1")
    return visitor


async def test_the_extent_covers_visible_readings(visit: Visit, clock: SetClock) -> None:
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


async def test_a_user_without_readings_has_no_extent(visit: Visit) -> None:
    visitor = visit(days_back=0)
    await visitor.connect()
    assert (await visitor.get("dataRange")).json()["egvs"] is None


async def test_old_readings_stay(visit: Visit, clock: SetClock) -> None:
    visitor = visit(days_back=10)
    await visitor.connect()
    before = (await visitor.get("dataRange")).json()["egvs"]["start"]
    clock.pass_time(days=20)
    await visitor.rotate()
    assert (await visitor.get("dataRange")).json()["egvs"]["start"] == before


async def test_faults_of_unknown_users_are_refused(visitor: Visitor) -> None:
    with pytest.raises(UnknownUser, match="SandboxUser7"):
        visitor.simulator.add_fault(ReplyLost(user="Nobody"))


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
