"""Admin routes: truth, rotations, unreadable faults."""

from datetime import timedelta
from typing import Any

import pytest

from bg_ingest.simulator.journal import token_hash
from tests.harness.simulator_visitor import SetClock, Visitor, bare
from tests.unit.simulator.conftest import Visit


@pytest.fixture
async def visitor(visit: Visit) -> Visitor:
    visitor = visit()
    await visitor.connect("SandboxUser1")
    return visitor


async def test_rotations_are_listed_by_hash_and_never_by_token(visit: Visit) -> None:
    visitor = visit()
    await visitor.connect("SandboxUser5")
    old = visitor.refresh_token
    await visitor.rotate()
    listed = await visitor.http.get("/admin/rotations")
    (rotated,) = listed.json()
    assert rotated["user"] == "SandboxUser5"
    assert rotated["answered"] is True
    assert (rotated["old"], rotated["new"]) == (token_hash(old), token_hash(visitor.refresh_token))
    assert old not in listed.text


async def test_the_admin_shows_the_truth_to_tests_in_other_processes(visit: Visit, clock: SetClock) -> None:
    visitor = visit()
    window = {"user": "SandboxUser1", "start": bare(clock.at - timedelta(hours=1)), "end": bare(clock.at)}
    values = (await visitor.http.get("/admin/truth", params=window)).json()
    truth = visitor.simulator.truth("SandboxUser1", clock.at - timedelta(hours=1), clock.at)
    assert [reading["glucose_mg_dl"] for reading in values] == [reading.glucose_mg_dl for reading in truth]
    assert values
    assert (await visitor.http.get("/admin/truth", params=window | {"user": "Nobody"})).status_code == 400
    assert (await visitor.http.get("/admin/truth", params=window | {"start": "today"})).status_code == 400


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "flood"},
        {"kind": "slow"},
        {"kind": "failed", "status": 200},
        {"kind": "failed", "user": "Nobody"},
        {"kind": "failed", "howmany": 3},
        {"kind": "failed", "until": "2026-07-01T12:00:00"},
        {"kind": "late", "start": "2026-07-01T12:00:00Z"},
    ],
)
async def test_an_unreadable_fault_is_refused(visitor: Visitor, fault: dict[str, Any]) -> None:
    answer = await visitor.http.post("/admin/faults", json=fault)
    assert answer.status_code == 400
    assert (await visitor.http.get("/admin/state")).json()["faults"] == []
