"""Every route and every kind of credential: the status is asserted, and a route without a row fails."""

from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import product
from typing import NamedTuple

import anyio
import httpx
import pytest
from litestar.routes import HTTPRoute

from bg_ingest.api.auth import Access
from bg_ingest.api.dependencies import RouteOptions
from bg_ingest.domain.access import Scope
from bg_ingest.domain.ids import UserId
from tests.fakes.fake_provider import FakeProvider
from tests.harness.api import ADA, ApiHarness, open_api, reading
from tests.unit.api.test_health import REPORT
from tests.unit.api.test_openapi import routes_of

SCOPES = frozenset(Scope)


class Row(NamedTuple):
    """A route with its arguments, the scope that it needs, and the answer to the right credential."""

    scope: Scope | None
    path: str
    right: int
    unknown: int = 404
    """Status for a credential for all users that requests an unknown user."""


MATRIX = {
    ("GET", "/api/bg/{user_id}/latest"): Row(Scope.READINGS_READ, "/api/bg/{user}/latest", 200),
    ("GET", "/api/bg/{user_id}"): Row(Scope.READINGS_READ, "/api/bg/{user}", 200),
    ("GET", "/api/bg/{user_id}/gaps"): Row(Scope.READINGS_READ, "/api/bg/{user}/gaps", 200),
    ("GET", "/api/bg/{user_id}/completeness"): Row(Scope.READINGS_READ, "/api/bg/{user}/completeness", 200),
    ("GET", "/api/bg/{user_id}/statistics"): Row(Scope.READINGS_READ, "/api/bg/{user}/statistics", 200),
    ("GET", "/api/bg/{user_id}/statistics/daily"): Row(Scope.READINGS_READ, "/api/bg/{user}/statistics/daily", 200),
    ("GET", "/api/bg/{user_id}/profile"): Row(Scope.READINGS_READ, "/api/bg/{user}/profile", 200),
    ("GET", "/api/bg/{user_id}/changes"): Row(Scope.READINGS_READ, "/api/bg/{user}/changes", 200),
    ("POST", "/api/changes"): Row(Scope.READINGS_READ, "/api/changes", 200),
    ("POST", "/api/dataset"): Row(Scope.READINGS_READ, "/api/dataset", 200),
    ("GET", "/api/users"): Row(Scope.READINGS_READ, "/api/users", 200),
    ("GET", "/api/latest"): Row(Scope.READINGS_READ, "/api/latest?users=ada", 200),
    ("GET", "/api/bg/{user_id}/series"): Row(Scope.READINGS_READ, "/api/bg/{user}/series", 200),
    ("POST", "/api/bg/{user_id}/webhook"): Row(None, "/api/bg/{user}/webhook", 401, unknown=401),
    ("POST", "/api/users/{user_id}/connections/{provider}"): Row(
        Scope.CONNECTIONS_WRITE, "/api/users/{user}/connections/acme", 201, unknown=201
    ),
    ("GET", "/api/oauth/{provider}/callback"): Row(None, "/api/oauth/acme/callback", 400),
    ("GET", "/api/users/{user_id}/connections"): Row(Scope.CONNECTIONS_READ, "/api/users/{user}/connections", 200),
    ("GET", "/api/users/{user_id}/connections/{provider}"): Row(
        Scope.CONNECTIONS_READ, "/api/users/{user}/connections/acme", 200
    ),
    ("GET", "/api/users/{user_id}/connections/{provider}/timeline"): Row(
        Scope.CONNECTIONS_READ, "/api/users/{user}/connections/acme/timeline", 200
    ),
    ("PATCH", "/api/users/{user_id}/connections/{provider}/worker"): Row(
        Scope.CONNECTIONS_WRITE, "/api/users/{user}/connections/acme/worker", 200
    ),
    ("POST", "/api/users/{user_id}/connections/{provider}/poll"): Row(
        Scope.CONNECTIONS_WRITE, "/api/users/{user}/connections/acme/poll", 202
    ),
    ("POST", "/api/users/{user_id}/connections/{provider}/backfill"): Row(
        Scope.CONNECTIONS_WRITE, "/api/users/{user}/connections/acme/backfill", 202
    ),
    ("POST", "/api/users/{user_id}/connections/{provider}/verify"): Row(
        Scope.ADMIN, "/api/users/{user}/connections/acme/verify", 200
    ),
    ("DELETE", "/api/users/{user_id}/connections/{provider}"): Row(
        Scope.CONNECTIONS_WRITE, "/api/users/{user}/connections/acme", 204
    ),
    ("GET", "/api/users/{user_id}/export"): Row(Scope.ADMIN, "/api/users/{user}/export", 200),
    ("DELETE", "/api/users/{user_id}"): Row(Scope.ADMIN, "/api/users/{user}", 200),
    ("GET", "/api/audit"): Row(Scope.ADMIN, "/api/audit?user=ada", 200),
    ("GET", "/api/workers"): Row(Scope.ADMIN, "/api/workers", 200),
    ("GET", "/"): Row(None, "/", 200),
    ("GET", "/page/{file}"): Row(None, "/page/main.js", 200),
    ("GET", "/health/live"): Row(None, "/health/live", 200),
    ("GET", "/health/ready"): Row(None, "/health/ready", 200),
    ("GET", "/metrics"): Row(None, "/metrics", 200),
    ("GET", "/schema"): Row(None, "/schema", 200),
    ("GET", "/schema/openapi.json"): Row(None, "/schema/openapi.json", 200),
    ("GET", "/schema/openapi.yaml"): Row(None, "/schema/openapi.yaml", 200),
    ("GET", "/schema/openapi.yml"): Row(None, "/schema/openapi.yml", 200),
    ("GET", "/schema/page"): Row(None, "/schema/page", 200),
}
"""Every route of the service, by method and path. A new route needs a row here, with its permitted callers."""

GUARDED_ROUTES = {route: row for route, row in MATRIX.items() if row.scope is not None}
USER_ROUTES = {route: row for route, row in GUARDED_ROUTES.items() if "{user}" in row.path}
MANY_USERS = {("POST", "/api/changes"), ("GET", "/api/latest"), ("POST", "/api/dataset")}
"""Routes that answer a user outside of the credential like an unknown one, in an answer about several users."""
GLOBAL_ROUTES = {
    route: row for route, row in GUARDED_ROUTES.items() if "{user}" not in row.path and route not in MANY_USERS
}
OPEN_ROUTES = {route: row for route, row in MATRIX.items() if row.scope is None}

each_guarded_route = pytest.mark.parametrize("route", GUARDED_ROUTES, ids=" ".join)
each_user_route = pytest.mark.parametrize("route", USER_ROUTES, ids=" ".join)


class ClosedService:
    """A service that is closed to callers without a credential; Ada is its only user, and connected."""

    def __init__(self, api: ApiHarness) -> None:
        self.api = api

    async def key(self, *scopes: Scope | None, users: list[str] | None = None, days: float | None = None) -> str:
        made = await self.api.services.api_keys.create(
            "test",
            [each for each in scopes if each],
            users=None if users is None else [UserId(each) for each in users],
            ends_at=self.api.clock.now() + timedelta(days=days) if days else None,
        )
        await anyio.sleep(2)  # until a new key is known
        assert await self.api.services.authenticator.authenticate(made.text.reveal())
        return made.text.reveal()

    async def ask(self, route: tuple[str, str], credential: str | None = None, user: str = ADA) -> httpx.Response:
        headers = {} if credential is None else {"Authorization": f"Bearer {credential}"}
        body = b'{"paused":false}' if route[0] == "PATCH" else None
        if route[1].endswith("/verify"):
            body = b'{"from":"2025-04-01T00:00:00Z","to":"2025-04-02T00:00:00Z"}'
        if route[1] == "/api/changes":
            body = b'{"after":{"ada":0}}'
        if route[1] == "/api/dataset":
            body = b'{"users":["ada"],"from":"2026-01-01"}'
            headers["Accept"] = "application/json"
        if body:
            headers["Content-Type"] = "application/json"
        path = MATRIX[route].path.format(user=user)
        return await self.api.http.request(route[0], path, headers=headers, content=body)


@pytest.fixture
async def closed_service() -> AsyncIterator[ClosedService]:
    async with open_api(Access.CLOSED, acme=FakeProvider()) as api:
        begun = await api.services.connector.begin(ADA, "acme", None)
        state = httpx.URL(begun.authorize_url).params["state"]
        await api.services.connector.finish("acme", state=state, code="code", error=None)
        await api.add_readings(reading(-1))
        api.process_health.status_answer = REPORT
        yield ClosedService(api)


def assert_not_authenticated(answer: httpx.Response, *, given: bool) -> None:
    assert answer.status_code == 401
    assert answer.json()["type"] == "not-authenticated"
    assert answer.headers["www-authenticate"] == ('Bearer error="invalid_token"' if given else "Bearer")


async def test_every_route_has_a_row_and_every_row_a_route(closed_service: ClosedService) -> None:
    assert set(MATRIX) == routes_of(closed_service.api.app)


async def test_every_row_has_the_scope_that_the_route_asks_for(closed_service: ClosedService) -> None:
    found = {
        (method, route.path.replace(":str", ""), RouteOptions.of(handler).scope, RouteOptions.of(handler).public)
        for route in closed_service.api.app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        for method in handler.http_methods - {"OPTIONS"}
        if "{path:" not in route.path
    }
    assert found == {(*route, row.scope, row.scope is None) for route, row in MATRIX.items()}


@pytest.mark.slow
async def test_an_open_route_checks_no_credential(closed_service: ClosedService) -> None:
    for route, row in OPEN_ROUTES.items():
        for credential in (None, "wrong", await closed_service.key(*SCOPES)):
            assert (await closed_service.ask(route, credential)).status_code == row.right, route


async def test_without_a_credential_it_is_401_and_nothing_is_asked(closed_service: ClosedService) -> None:
    before = closed_service.api.table.asked
    for route in GUARDED_ROUTES:
        assert_not_authenticated(await closed_service.ask(route), given=False)
    assert closed_service.api.table.asked == before


async def test_with_a_wrong_one_it_is_401(closed_service: ClosedService) -> None:
    right = await closed_service.key(*SCOPES)
    nearly = right[:-1] + ("A" if right[-1] != "A" else "B")
    for route, wrong in product(GUARDED_ROUTES, ("x", nearly, "bgi_none_" + "s" * 43, "a.b.c")):
        assert_not_authenticated(await closed_service.ask(route, wrong), given=True)


async def test_with_an_expired_one_it_is_401(closed_service: ClosedService) -> None:
    credential = await closed_service.key(*SCOPES, days=1)
    closed_service.api.clock.advance(timedelta(days=1))
    for route in GUARDED_ROUTES:
        assert_not_authenticated(await closed_service.ask(route, credential), given=True)


async def test_with_a_revoked_one_it_is_401(closed_service: ClosedService) -> None:
    credential = await closed_service.key(*SCOPES)
    route = ("GET", "/api/bg/{user_id}/latest")
    assert (await closed_service.ask(route, credential)).status_code == MATRIX[route].right
    await closed_service.api.services.api_keys.revoke(credential.split("_")[1])
    await anyio.sleep(30)
    for route in GUARDED_ROUTES:
        assert_not_authenticated(await closed_service.ask(route, credential), given=True)


async def test_with_every_other_scope_it_is_403_and_nothing_is_asked(closed_service: ClosedService) -> None:
    for route, row in GUARDED_ROUTES.items():
        credential = await closed_service.key(*(SCOPES - {row.scope}))
        before = closed_service.api.table.asked
        answer = await closed_service.ask(route, credential)
        assert (answer.status_code, answer.json()["type"]) == (403, "insufficient-scope"), route
        assert f'scope="{row.scope}"' in answer.headers["www-authenticate"], route
        assert closed_service.api.table.asked == before, route


@pytest.mark.slow
@each_guarded_route
async def test_with_the_right_one_it_is_answered(closed_service: ClosedService, route: tuple[str, str]) -> None:
    answer = await closed_service.ask(route, await closed_service.key(MATRIX[route].scope))
    assert answer.status_code == MATRIX[route].right
    assert answer.headers["cache-control"] in {"no-store", "private, no-cache"}


@each_user_route
async def test_with_one_for_this_user_it_is_answered(closed_service: ClosedService, route: tuple[str, str]) -> None:
    credential = await closed_service.key(MATRIX[route].scope, users=[ADA, "bob"])
    assert (await closed_service.ask(route, credential)).status_code == MATRIX[route].right


async def test_with_another_users_it_is_as_if_there_were_no_such_user(closed_service: ClosedService) -> None:
    for number, (route, row) in enumerate(USER_ROUTES.items()):
        nobody = f"nobody-{number}"  # a connect or an erasure makes the user known
        key_for_all = await closed_service.key(row.scope)
        others = await closed_service.key(row.scope, users=["bob"])
        unknown = await closed_service.ask(route, key_for_all, nobody)
        assert unknown.status_code == row.unknown, route
        before = closed_service.api.table.asked
        answers = [await closed_service.ask(route, others, user) for user in (ADA, nobody)]
        assert closed_service.api.table.asked == before, f"{route}: no read of the store for an unpermitted caller"
        for answer in answers:
            assert answer.status_code == 404, route
            assert answer.content == answers[0].content, route
            if unknown.status_code == 404:
                assert answer.content == unknown.content, route
                assert set(answer.headers) == set(unknown.headers), route


async def test_a_key_of_erased_users_only_is_valid_for_no_user(closed_service: ClosedService) -> None:
    credentials = {route: await closed_service.key(row.scope, users=[ADA]) for route, row in USER_ROUTES.items()}
    await closed_service.api.store.keys.remove_user(ADA)
    await anyio.sleep(30)
    for route, credential in credentials.items():
        assert (await closed_service.ask(route, credential)).status_code == 404, route


async def test_what_is_about_no_user_is_not_for_a_credential_of_single_users(closed_service: ClosedService) -> None:
    for route, row in GLOBAL_ROUTES.items():
        answer = await closed_service.ask(route, await closed_service.key(row.scope, users=[ADA]))
        assert (answer.status_code, answer.json()["type"]) == (403, "insufficient-scope")


async def test_an_id_that_cannot_be_is_400_whomever_it_is_for(closed_service: ClosedService) -> None:
    for route, row in USER_ROUTES.items():
        answer = await closed_service.ask(route, await closed_service.key(row.scope, users=[ADA]), "a%0A")
        assert (answer.status_code, answer.json()["type"]) == (400, "invalid-user-id"), route


async def test_a_404_is_answered_to_permitted_callers_only(closed_service: ClosedService) -> None:
    credential = await closed_service.key(Scope.READINGS_READ)
    for method, path, status in (("GET", "/nowhere", 404), ("PUT", "/api/bg/ada", 405)):
        assert_not_authenticated(await closed_service.api.http.request(method, path), given=False)
        wrong = {"Authorization": "Bearer x"}
        assert_not_authenticated(await closed_service.api.http.request(method, path, headers=wrong), given=True)
        right = {"Authorization": f"Bearer {credential}"}
        assert (await closed_service.api.http.request(method, path, headers=right)).status_code == status
