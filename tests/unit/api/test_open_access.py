"""Open API of development: for this machine, until a key is made."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import anyio
import httpx
import pytest
from litestar.datastructures import State
from litestar.routes import HTTPRoute

from bg_ingest.api.app import create_api
from bg_ingest.api.auth import DEFAULT_LIMITS, Access, AuthGuard
from bg_ingest.api.dependencies import RouteOptions
from bg_ingest.domain.access import Scope
from bg_ingest.domain.local_access import LocalAccess
from bg_ingest.services.access.authenticate import Authenticator
from bg_ingest.simulator import SimulatorOptions, create_simulator
from tests.fakes.faults import Fault, FaultyCalls
from tests.harness.api import ADA, ApiHarness, open_api, reading


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:5001", "LOCALHOST:5001", "127.0.0.1:5001", "192.168.1.7", "[::1]:5001", "ingest.test"],
)
async def test_our_own_names_and_addresses_are_answered(api: ApiHarness, host: str) -> None:
    await api.add_readings(reading(-1))
    assert (await api.http.get("/api/bg/ada/latest", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:5001", "localhost.evil.example", "127.0.0.1.evil.example", "evil.example:x"]
)
async def test_a_page_that_gave_us_its_own_name_is_not(api: ApiHarness, host: str) -> None:
    before = api.table.asked
    for method, path in (("GET", "/api/bg/ada/latest"), ("POST", "/api/users/ada/connections/acme"), ("GET", "/x")):
        answer = await api.http.request(method, path, headers={"Host": host})
        assert (answer.status_code, answer.json()["type"]) == (421, "unknown-host")
    assert api.table.asked == before
    assert (await api.http.get("/health/live", headers={"Host": host})).status_code == 200


async def test_the_first_key_closes_it_and_no_name_matters_any_more(api: ApiHarness) -> None:
    await api.add_readings(reading(-1))
    assert (await api.http.get("/api/bg/ada/latest")).status_code == 200
    made = await api.services.api_keys.create("mine", {Scope.READINGS_READ})
    await anyio.sleep(30)
    assert (await api.http.get("/api/bg/ada/latest")).status_code == 401
    assert (await api.http.get("/nowhere")).status_code == 401
    right = {"Authorization": f"Bearer {made.text.reveal()}", "Host": "bg.example"}
    assert (await api.http.get("/api/bg/ada/latest", headers=right)).status_code == 200


async def test_while_it_is_open_no_credential_is_checked(api: ApiHarness) -> None:
    await api.add_readings(reading(-1))
    answer = await api.http.get("/api/bg/ada/latest", headers={"Authorization": "Bearer wrong"})
    assert answer.status_code == 200


FOREIGN: list[tuple[dict[str, str], int, str]] = [
    ({"Host": "dev.tunnel.example"}, 421, "unknown-host"),
    ({"X-Forwarded-For": "203.0.113.5"}, 421, "unknown-host"),
    ({"Forwarded": "for=203.0.113.5"}, 421, "unknown-host"),
    ({"Via": "1.1 proxy"}, 421, "unknown-host"),
    ({"Origin": "https://evil.example"}, 403, "foreign-origin"),
    ({"Sec-Fetch-Site": "cross-site"}, 403, "foreign-origin"),
    ({"Sec-Fetch-Site": "same-site"}, 403, "foreign-origin"),
]
"""Headers of requests that do not come from this machine, with the problem."""

ANSWERED_ANYWHERE = {
    "/health/live",
    "/health/ready",
    "/api/oauth/{provider}/callback",
    "/api/bg/{user_id}/webhook",
}
"""Routes that show nothing or carry their own proof: all others are refused."""


def paths_of(api: ApiHarness) -> dict[str, set[str]]:
    """Return the methods of each path, with names as in the contract."""
    routes = [route for route in api.app.routes if isinstance(route, HTTPRoute) and "{path:" not in route.path]
    return {route.path.replace(":str", ""): set(route.methods) for route in routes}


@pytest.mark.slow
@pytest.mark.parametrize(("headers", "status", "slug"), FOREIGN, ids=[" ".join(*case[0].items()) for case in FOREIGN])
async def test_s5_s7_s16_every_route_but_public_ones_is_refused(
    api: ApiHarness, headers: dict[str, str], status: int, slug: str
) -> None:
    await api.add_readings(reading(-1))
    for path, methods in paths_of(api).items():
        for method in methods:
            url = path.format(user_id="ada", provider="acme", file="main.js")
            answer = await api.http.request(method, url, headers=headers)
            if path in ANSWERED_ANYWHERE:
                assert method == "OPTIONS" or answer.status_code not in {403, 421}, (method, path)
            else:
                assert answer.status_code == status, (method, path)
                assert answer.json()["type"] == slug, (method, path)
    answer = await api.http.get("/nowhere", headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (status, slug)
    head = await api.store.readings.head(ADA)
    assert head is not None
    assert not head.erased


async def test_s5_api_open_is_the_only_exception_for_proxies(api: ApiHarness) -> None:
    await api.add_readings(reading(-1))
    api.app.state.auth_guard = AuthGuard(Access.OPEN, LocalAccess(["ingest.test"], proxied=True), DEFAULT_LIMITS)
    forwarded = {"X-Forwarded-For": "203.0.113.5"}
    assert (await api.http.get("/api/bg/ada/latest", headers=forwarded)).status_code == 200
    evil = {"Origin": "https://evil.example"}
    assert (await api.http.get("/api/bg/ada/latest", headers=forwarded | evil)).status_code == 403


@pytest.mark.parametrize("hosts", [[], ["localhost", "localhost"], ["localhost", "evil.example"]])
async def test_s16_two_host_headers_or_none_are_refused(api: ApiHarness, hosts: list[str]) -> None:
    for path in ("/api/bg/ada/latest", "/metrics", "/schema", "/nowhere"):
        assert await status_of(api.app, path, [(b"host", host.encode()) for host in hosts]) == 421
    assert await status_of(api.app, "/health/live", [(b"host", host.encode()) for host in hosts]) == 200


async def status_of(app: Any, path: str, headers: list[tuple[bytes, bytes]], method: str = "GET") -> int:
    """Return the status of a request with exactly these headers; httpx always sends one Host."""
    statuses: list[int] = []
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 5001),
        "scheme": "http",
        "http_version": "1.1",
    }

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await app(scope, receive, send)
    return statuses[0]


@asynccontextmanager
async def mounted_simulator(access: Access) -> AsyncIterator[httpx.AsyncClient]:
    async with open_api(access) as api:
        simulator = create_simulator(SimulatorOptions(), now=api.clock.now)
        app = create_api(State(api.app.state.dict()), mounts={"/simulator": cast("Any", simulator)})
        transport = httpx.ASGITransport(app=cast("Any", app))
        async with httpx.AsyncClient(transport=transport, base_url="http://ingest.test") as http:
            yield http


@pytest.mark.parametrize("access", Access)
async def test_s7_s16_the_mounted_simulator_has_the_same_rule_in_any_mode(access: Access) -> None:
    async with mounted_simulator(access) as http:
        fault = {"kind": "throttled"}
        for headers, status, slug in FOREIGN:
            for method, path in (("POST", "/simulator/admin/faults"), ("GET", "/simulator/admin/state")):
                answer = await http.request(method, path, headers=headers, json=fault if method == "POST" else None)
                assert (answer.status_code, answer.json()["type"]) == (status, slug)
        assert (await http.get("/simulator/admin/state")).json()["faults"] == []
        link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        assert (await http.get("/simulator/v3/oauth2/login", headers=link)).status_code == 400, "a page of its own"


async def test_s7_a_body_without_a_content_type_is_no_json(api: ApiHarness) -> None:
    for media_type in ("", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        headers = {"Content-Type": media_type} if media_type else {}
        answer = await api.http.post("/api/users/ada/connections/acme", content=b"{}", headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (415, "unsupported-media-type")
    assert (await api.http.post("/api/users/ada/connections/acme")).status_code == 404, "no body needs no type"


async def test_f27_the_problem_names_the_setting(api: ApiHarness) -> None:
    answer = await api.http.get("/api/bg/ada/latest", headers={"Host": "bg-ingest:5001"})
    assert "ALLOWED_HOSTS" in answer.json()["detail"]


async def test_while_the_store_is_unreachable_metrics_stay_local(api: ApiHarness) -> None:
    failing = FaultyCalls(api.store.keys, lambda _: Fault.BEFORE)
    api.replace_services(authenticator=Authenticator(failing, api.clock))
    assert (await api.http.get("/metrics")).status_code == 200
    assert (await api.http.get("/metrics", headers={"Host": "evil.example"})).status_code == 421


async def test_public_routes_for_every_origin_are_listed(api: ApiHarness) -> None:
    found = {
        route.path.replace(":str", "")
        for route in api.app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        if RouteOptions.of(handler).any_origin
    }
    assert found == ANSWERED_ANYWHERE
