"""Health data needs a credential outside development; the open routes are listed."""

from collections.abc import AsyncIterator

import pytest
from litestar.routes import HTTPRoute

from bg_ingest.api.auth import Access
from bg_ingest.api.dependencies import RouteOptions
from tests.harness.api import ApiHarness, open_api, reading

OPEN = [
    ("GET", "/health/live", 200),
    ("GET", "/health/ready", 200),
    ("GET", "/schema", 200),
    ("GET", "/schema/openapi.json", 200),
    ("GET", "/schema/page", 200),
    ("GET", "/api/oauth/acme/callback", 404),
]

CLOSED = [
    ("GET", "/api/bg/ada/latest"),
    ("GET", "/api/bg/ada"),
    ("OPTIONS", "/api/bg/ada"),
    ("PUT", "/api/bg/ada"),
    ("GET", "/api/bg/a%0A"),
    ("GET", "/api/bg/ada?nonsense=1"),
    ("GET", "/api/users/ada/connections"),
    ("GET", "/api/users/ada/connections/acme"),
    ("POST", "/api/users/ada/connections/acme"),
    ("PATCH", "/api/users/ada/connections/acme/worker"),
    ("POST", "/api/users/ada/connections/acme/poll"),
    ("DELETE", "/api/users/ada/connections/acme"),
    ("DELETE", "/api/users/ada"),
    ("GET", "/api/nowhere"),
    ("GET", "/nowhere"),
    ("GET", "/simulator/"),
    ("GET", "/health/../api/bg/ada"),
    ("GET", "//api/bg/ada"),
]


@pytest.fixture
async def closed() -> AsyncIterator[ApiHarness]:
    async with open_api(Access.CLOSED) as api:
        await api.add_readings(reading(-1))
        yield api


@pytest.mark.parametrize(("method", "path"), CLOSED)
async def test_what_is_closed_answers_401_and_asks_nothing(closed: ApiHarness, method: str, path: str) -> None:
    before = closed.table.asked
    answer = await closed.http.request(method, path, content=b"not even JSON")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "not-authenticated"
    assert closed.table.asked == before


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path", "status"), OPEN)
async def test_what_asks_for_no_credentials_is_open(closed: ApiHarness, method: str, path: str, status: int) -> None:
    assert (await closed.http.request(method, path)).status_code == status


async def test_only_these_routes_are_open(closed: ApiHarness) -> None:
    routes = [route for route in closed.app.routes if isinstance(route, HTTPRoute)]
    public = {route.path for route in routes for each in route.route_handlers if RouteOptions.of(each).public}
    assert public == {
        "/",
        "/page/{file:str}",
        "/health/live",
        "/health/ready",
        "/metrics",
        "/api/oauth/{provider:str}/callback",
        "/api/bg/{user_id:str}/webhook",
        "/schema",
        "/schema/openapi.json",
        "/schema/openapi.yaml",
        "/schema/openapi.yml",
        "/schema/page",
        "/schema/{path:str}",
    }


async def test_no_credential_opens_what_is_closed(closed: ApiHarness) -> None:
    for credential in ("Bearer x", "Basic YTpi", "Bearer "):
        answer = await closed.http.get("/api/bg/ada", headers={"Authorization": credential})
        assert answer.status_code == 401
