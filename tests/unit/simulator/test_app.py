"""Application: prefix, dates of answers. Admin routes: truth, rotations, unreadable faults."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from litestar import Litestar, asgi, get

from bg_ingest.simulator import SimulatorOptions, create_simulator
from bg_ingest.simulator.journal import token_hash
from tests.harness.simulator_visitor import SetClock, Visitor, answer_of, bare, in_process
from tests.unit.simulator.conftest import Visit


@get("/")
async def greet() -> str:
    return "the service"


@pytest.fixture
async def mounted(clock: SetClock) -> AsyncIterator[Visitor]:
    simulator = create_simulator(SimulatorOptions(), now=clock)
    outer = Litestar(
        [greet, asgi("/simulator", is_mount=True, copy_scope=True)(simulator)], openapi_config=None, logging_config=None
    )
    visitor = Visitor(simulator)
    visitor.http = httpx.AsyncClient(transport=in_process(outer), base_url="http://service.test/simulator")
    async with visitor.http:
        yield visitor


async def test_login_and_data_work_under_a_prefix(mounted: Visitor) -> None:
    page = await mounted.login()
    assert "action=" not in page.text, "a form without action is sent to its own address, with any prefix"
    assert page.request.url.path == "/simulator/v3/oauth2/login"
    answer = answer_of(await mounted.http.post(page.request.url, data={"user": "SandboxUser3"}))
    assert (await mounted.exchange(answer["code"])).status_code == 200
    await mounted.connect("SandboxUser3")
    assert (await mounted.get("dataRange")).json()["recordType"] == "dataRange"
    assert (await mounted.http.get("http://service.test/")).text == "the service"


async def test_every_answer_carries_the_clock_as_its_date(visit: Visit, clock: SetClock) -> None:
    visitor = visit()
    for answer in (await visitor.login(), await visitor.get("egvs"), await visitor.http.get("/nothing-here")):
        assert answer.headers.get_list("date") == ["Tue, 09 Jun 2026 12:00:00 GMT"], answer.request.url
    clock.pass_time(hours=1)
    assert (await visitor.login()).headers["date"] == "Tue, 09 Jun 2026 13:00:00 GMT"


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
