"""The application as a whole: routes are closed by default, and requests read its state."""

from dataclasses import replace
from typing import Any, cast

import anyio
import httpx
from litestar import Litestar, get
from litestar.datastructures import State

from bg_ingest.api.app import build_state, create_api
from bg_ingest.api.auth import Access
from bg_ingest.api.dependencies import RouteOptions
from bg_ingest.domain.access import Scope
from tests.harness.api import ApiHarness, FakeProcessHealth, open_api, reading


def client(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=cast("Any", app)), base_url="http://ingest.test")


async def test_a_new_route_is_closed_unless_it_declares_its_scope() -> None:
    async with open_api(Access.CLOSED) as closed:
        made = await closed.services.api_keys.create("dashboard", [Scope.READINGS_READ])
        await anyio.sleep(2)  # by then an unknown id is read again
        credential = {"Authorization": f"Bearer {made.text.reveal()}"}

        @get("/api/undeclared")
        async def undeclared() -> str:
            return "health data"

        @get("/api/declared", opt=RouteOptions(scope=Scope.READINGS_READ).opt())
        async def declared() -> str:
            return "health data"

        app = create_api(closed.app.state)
        app.register(undeclared)
        app.register(declared)
        async with client(app) as http:
            assert (await http.get("/api/undeclared")).status_code == 401
            assert (await http.get("/api/undeclared", headers=credential)).status_code == 403
            assert (await http.get("/api/declared")).status_code == 401
            assert (await http.get("/api/declared", headers=credential)).status_code == 200


async def test_requests_use_the_services_of_the_state_at_that_time() -> None:
    async with open_api() as first, open_api() as second:
        await first.add_readings(reading(0, 111))
        await second.add_readings(reading(0, 222))
        assert first.app is not second.app, "applications that are in use at the same time are not shared"
        assert (await first.http.get("/api/bg/ada/latest")).json()["glucose_mg_dl"] == 111
        first.app.state.services = replace(first.services, reader=second.services.reader)
        assert (await first.http.get("/api/bg/ada/latest")).json()["glucose_mg_dl"] == 222


async def test_without_an_exposition_there_are_no_metrics() -> None:
    state = build_state(access=Access.OPEN, process_health=FakeProcessHealth())
    assert "/metrics" not in {route.path for route in create_api(state).routes}


async def test_a_mounted_application_authenticates_by_itself(api: ApiHarness) -> None:
    @get("/page", sync_to_thread=False)
    def page() -> str:
        return "mounted"

    mounted = cast("Any", Litestar([page], openapi_config=None))
    state = State(api.app.state.dict())
    async with client(create_api(state, mounts={"/beside": mounted})) as http:
        assert (await http.get("/beside/page")).text == "mounted"
