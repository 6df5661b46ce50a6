"""Active faults: matching calls, end, and effect on readings."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from bg_ingest.simulator import TrueReading
from bg_ingest.simulator.faults import Late, Revised, Throttled
from tests.harness.simulator_visitor import SetClock, Visitor
from tests.unit.simulator.conftest import Visit


@pytest.fixture
async def visitor(visit: Visit) -> Visitor:
    visitor = visit()
    await visitor.connect("SandboxUser1")
    return visitor


async def test_late_readings_appear_at_their_time(visitor: Visitor, clock: SetClock) -> None:
    start, end = clock.at - timedelta(hours=3), clock.at - timedelta(hours=1)
    window = clock.at - timedelta(hours=6), clock.at - timedelta(minutes=5)
    everything = await visitor.records(*window)
    visitor.simulator.add_fault(
        Late(user="SandboxUser1", start=start, end=end, shown_at=clock.at + timedelta(minutes=30))
    )
    shown = await visitor.records(*window)
    held = [record for record in everything if start <= datetime.fromisoformat(record["systemTime"]) < end]
    assert held
    assert shown == [record for record in everything if record not in held]
    clock.pass_time(minutes=30)
    assert await visitor.records(*window) == everything


async def test_the_extent_ends_before_late_readings(visitor: Visitor, clock: SetClock) -> None:
    start = clock.at - timedelta(days=2)
    visitor.simulator.add_fault(Late(start=start, end=clock.at, shown_at=clock.at + timedelta(days=1)))
    end = (await visitor.get("dataRange")).json()["egvs"]["end"]["systemTime"]
    assert start - timedelta(hours=3) < datetime.fromisoformat(end) < start


async def test_revised_readings_keep_their_ids_and_change_their_values(visitor: Visitor, clock: SetClock) -> None:
    start, end = clock.at - timedelta(hours=3), clock.at - timedelta(hours=1)
    at = clock.at + timedelta(minutes=10)
    visitor.simulator.add_fault(Revised(user="SandboxUser1", start=start, end=end, revised_at=at, by=8))
    before = await visitor.records(start, end - timedelta(seconds=1))
    clock.at = at
    after = await visitor.records(start, end - timedelta(seconds=1))
    assert [(record["recordId"], record["value"] + 8) for record in before] == [
        (record["recordId"], record["value"]) for record in after
    ]
    assert before


async def test_the_final_truth_contains_late_and_revised_readings(visitor: Visitor, clock: SetClock) -> None:
    simulator = visitor.simulator
    start, end, never = clock.at - timedelta(hours=2), clock.at, clock.at + timedelta(days=900)

    def values(readings: Any) -> list[int]:
        return [reading.glucose_mg_dl for reading in readings if isinstance(reading, TrueReading)]

    plain = values(simulator.truth("SandboxUser1", start, end))
    simulator.add_fault(Late(start=start, end=end, shown_at=never))
    simulator.add_fault(Revised(start=start, end=end + timedelta(seconds=1), revised_at=never, by=5))
    assert values(simulator.truth("SandboxUser1", start, end)) == [value + 5 for value in plain]
    assert values(simulator.truth("SandboxUser1", start, end, clock.at)) == []


async def test_a_fault_affects_its_user_and_endpoint_only(visitor: Visitor, visit: Visit) -> None:
    await visitor.add_fault(kind="failed", user="SandboxUser1", endpoint="dataRange")
    assert (await visitor.get("dataRange")).status_code == 503
    assert (await visitor.get("egvs")).status_code == 400
    assert (await visitor.rotate()).status_code == 200
    await visitor.connect("SandboxUser2")
    assert (await visitor.get("dataRange")).status_code == 200


async def test_a_fault_of_a_user_affects_the_exchange_of_the_code(visitor: Visitor) -> None:
    await visitor.add_fault(kind="failed", user="SandboxUser3", endpoint="token")
    assert (await visitor.exchange(await visitor.code("SandboxUser2"))).status_code == 200
    assert (await visitor.exchange(await visitor.code("SandboxUser3"))).status_code == 503


async def test_a_fault_ends_by_count_by_time_or_by_hand(visitor: Visitor, clock: SetClock) -> None:
    async def status() -> int:
        return (await visitor.get("dataRange")).status_code

    await visitor.add_fault(kind="failed", count=2)
    assert [await status() for _ in range(3)] == [503, 503, 200]
    await visitor.add_fault(kind="failed", until=(clock.at + timedelta(minutes=1)).isoformat())
    assert await status() == 503
    clock.pass_time(minutes=1)
    assert await status() == 200
    number = await visitor.add_fault(kind="failed")
    assert await status() == 503
    assert (await visitor.http.delete(f"/admin/faults/{number}")).status_code == 204
    assert await status() == 200
    assert (await visitor.http.delete(f"/admin/faults/{number}")).status_code == 404
    await visitor.add_fault(kind="html")
    await visitor.add_fault(kind="failed")
    assert (await visitor.http.delete("/admin/faults")).status_code == 204
    assert (await visitor.get("dataRange")).json()["recordType"] == "dataRange"


async def test_of_two_faults_that_replace_the_answer_the_second_waits(visitor: Visitor) -> None:
    await visitor.add_fault(kind="throttled", count=1)
    await visitor.add_fault(kind="failed", count=1)
    assert [(await visitor.get("dataRange")).status_code for _ in range(3)] == [429, 503, 200]


@pytest.mark.slow
async def test_a_fault_with_a_probability_affects_the_same_calls_each_time(visit: Visit) -> None:
    runs = []
    for _ in range(2):
        visitor = visit()
        await visitor.connect()
        visitor.simulator.add_fault(Throttled(probability=0.3))
        runs.append([(await visitor.get("dataRange")).status_code for _ in range(60)])
    assert runs[0] == runs[1]
    assert 8 <= runs[0].count(429) <= 30
