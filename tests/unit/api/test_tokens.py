"""Tokens of the issuer at every route."""

from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pytest

from bg_ingest.adapters.jwt import JwtVerifier
from bg_ingest.domain.access import ALL_USERS, Scope
from bg_ingest.services.access.authenticate import Authenticator
from tests.fakes.issuer import AUDIENCE, ISSUER, FakeIssuer, key
from tests.harness.api import ADA
from tests.unit.api.test_matrix import (
    GLOBAL_ROUTES,
    GUARDED_ROUTES,
    MATRIX,
    SCOPES,
    USER_ROUTES,
    ClosedService,
    assert_not_authenticated,
)
from tests.unit.api.test_matrix import closed_service as closed_service  # noqa: PLC0414 - the fixture

each_guarded_route = pytest.mark.parametrize("route", GUARDED_ROUTES, ids=" ".join)
each_user_route = pytest.mark.parametrize("route", USER_ROUTES, ids=" ".join)


@pytest.fixture
async def issuer(closed_service: ClosedService) -> AsyncIterator[FakeIssuer]:
    """Issuer that the closed service accepts."""
    clock = closed_service.api.clock
    issuer = FakeIssuer(clock.now)
    tokens = JwtVerifier(issuer.http, clock, issuer=ISSUER, audience=AUDIENCE)
    closed_service.api.replace_services(
        authenticator=Authenticator(closed_service.api.store.keys, clock, token_verifier=tokens)
    )
    async with issuer.http:
        yield issuer


def each_scope(*scopes: str | None) -> str:
    return " ".join(str(each) for each in scopes if each)


@each_user_route
async def test_a_users_own_token_is_answered_about_them(
    closed_service: ClosedService, issuer: FakeIssuer, route: tuple[str, str]
) -> None:
    token = issuer.token(sub=ADA, scope=each_scope(MATRIX[route].scope, "openid"))
    assert (await closed_service.ask(route, token)).status_code == MATRIX[route].right


@pytest.mark.slow
@each_guarded_route
async def test_a_token_for_all_users_is_answered(
    closed_service: ClosedService, issuer: FakeIssuer, route: tuple[str, str]
) -> None:
    token = issuer.token(sub="dashboard", scope=each_scope(MATRIX[route].scope, ALL_USERS))
    assert (await closed_service.ask(route, token)).status_code == MATRIX[route].right


async def test_with_anothers_it_is_as_if_there_were_no_such_user(
    closed_service: ClosedService, issuer: FakeIssuer
) -> None:
    token = issuer.token(sub="bob", scope=each_scope(*SCOPES))
    before = closed_service.api.table.asked
    for route in USER_ROUTES:
        answers = [await closed_service.ask(route, token, user) for user in (ADA, "nobody")]
        assert [each.status_code for each in answers] == [404, 404], route
        assert answers[0].content == answers[1].content, route
    assert closed_service.api.table.asked == before


async def test_what_is_about_no_user_is_not_for_a_users_own_token(
    closed_service: ClosedService, issuer: FakeIssuer
) -> None:
    for route in GLOBAL_ROUTES:
        assert (await closed_service.ask(route, issuer.token(scope=each_scope(*SCOPES)))).status_code == 403


async def test_without_the_scope_it_is_403(closed_service: ClosedService, issuer: FakeIssuer) -> None:
    for route, row in GUARDED_ROUTES.items():
        others = each_scope(*(SCOPES - {row.scope}), ALL_USERS)
        for scope in (others, "", str(row.scope).upper(), f"x{row.scope}"):
            answer = await closed_service.ask(route, issuer.token(scope=scope))
            assert (answer.status_code, answer.json()["type"]) == (403, "insufficient-scope"), (route, scope)


async def test_one_that_is_not_right_is_401(closed_service: ClosedService, issuer: FakeIssuer) -> None:
    whole = each_scope(*SCOPES, ALL_USERS)
    now = closed_service.api.clock.now().timestamp()
    for token in (
        issuer.token(scope=whole, exp=int(now) - 60),
        issuer.token(scope=whole, nbf=int(now) + 60),
        issuer.token(scope=whole, aud="another"),
        issuer.token(scope=whole, iss="https://evil.example/"),
        issuer.token(scope=whole, by=key("another"), header={"kid": "first"}),
    ):
        for route in GUARDED_ROUTES:
            assert_not_authenticated(await closed_service.ask(route, token), given=True)


async def test_keys_and_tokens_let_in_side_by_side(closed_service: ClosedService, issuer: FakeIssuer) -> None:
    route = ("GET", "/api/bg/{user_id}")
    assert (await closed_service.ask(route, await closed_service.key(Scope.READINGS_READ))).status_code == 200
    assert (await closed_service.ask(route, issuer.token(sub=ADA))).status_code == 200


async def test_while_the_issuer_is_away_it_is_503_and_says_when_to_ask_again(
    closed_service: ClosedService, issuer: FakeIssuer
) -> None:
    issuer.failing = httpx.ConnectError("away")
    token = issuer.token(scope=each_scope(*SCOPES, ALL_USERS))
    for route in GUARDED_ROUTES:
        answer = await closed_service.ask(route, token)
        assert (answer.status_code, answer.json()["type"]) == (503, "issuer-unavailable"), route
        assert int(answer.headers["retry-after"]) >= 1, route
    route = ("GET", "/api/bg/{user_id}/latest")
    assert (await closed_service.ask(route, await closed_service.key(*SCOPES))).status_code == MATRIX[route].right


async def test_a_token_ends_while_it_is_in_use(closed_service: ClosedService, issuer: FakeIssuer) -> None:
    route, token = ("GET", "/api/bg/{user_id}"), issuer.token(sub=ADA)
    assert (await closed_service.ask(route, token)).status_code == 200
    closed_service.api.clock.advance(timedelta(minutes=6))
    assert_not_authenticated(await closed_service.ask(route, token), given=True)
