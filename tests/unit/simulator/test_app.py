"""Application: works under a prefix, dates every answer."""

from collections.abc import AsyncIterator

import httpx
import pytest
from litestar import Litestar, asgi, get

from bg_ingest.simulator import SimulatorOptions, create_simulator
from tests.harness.simulator_visitor import SetClock, Visitor, answer_of, in_process
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
    assert "action=" not in page.text, "a form without action goes to its own address, whatever the prefix"
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
