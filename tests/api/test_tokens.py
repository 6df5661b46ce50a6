"""Tokens of the issuer at every route."""

from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pytest

from bg_ingest.adapters.tokens import IssuerTokens
from bg_ingest.domain.credentials import ALL_USERS, Scope
from bg_ingest.services.admission import Admission
from tests.api.desk import ADA
from tests.api.test_matrix import GUARDED, MATRIX, OF_A_USER, OF_NO_USER, SCOPES, Office, assert_not_authenticated
from tests.api.test_matrix import office as office  # noqa: PLC0414 - the fixture
from tests.fakes.issuer import AUDIENCE, ISSUER, Issuer, key

each_guarded = pytest.mark.parametrize("route", GUARDED, ids=" ".join)
each_of_a_user = pytest.mark.parametrize("route", OF_A_USER, ids=" ".join)


@pytest.fixture
async def issuer(office: Office) -> AsyncIterator[Issuer]:
    """The office's service believes it."""
    clock = office.desk.clock
    issuer = Issuer(clock.now)
    tokens = IssuerTokens(issuer.http, clock, issuer=ISSUER, audience=AUDIENCE)
    office.desk.services.admission = Admission(office.desk.store.keys, clock, tokens=tokens)
    async with issuer.http:
        yield issuer


def scoped(*scopes: str | None) -> str:
    return " ".join(str(each) for each in scopes if each)


@each_of_a_user
async def test_a_users_own_token_is_answered_about_them(office: Office, issuer: Issuer, route: tuple[str, str]) -> None:
    token = issuer.token(sub=ADA, scope=scoped(MATRIX[route].scope, "openid"))
    assert (await office.ask(route, token)).status_code == MATRIX[route].right


@each_guarded
async def test_a_token_for_all_users_is_answered(office: Office, issuer: Issuer, route: tuple[str, str]) -> None:
    token = issuer.token(sub="dashboard", scope=scoped(MATRIX[route].scope, ALL_USERS))
    assert (await office.ask(route, token)).status_code == MATRIX[route].right


async def test_with_anothers_it_is_as_if_there_were_no_such_user(office: Office, issuer: Issuer) -> None:
    token = issuer.token(sub="bob", scope=scoped(*SCOPES))
    before = office.desk.table.asked
    for route in OF_A_USER:
        answers = [await office.ask(route, token, user) for user in (ADA, "nobody")]
        assert [each.status_code for each in answers] == [404, 404], route
        assert answers[0].content == answers[1].content, route
    assert office.desk.table.asked == before


async def test_what_is_about_no_user_is_not_for_a_users_own_token(office: Office, issuer: Issuer) -> None:
    for route in OF_NO_USER:
        assert (await office.ask(route, issuer.token(scope=scoped(*SCOPES)))).status_code == 403


async def test_without_the_scope_it_is_403(office: Office, issuer: Issuer) -> None:
    for route, row in GUARDED.items():
        others = scoped(*(SCOPES - {row.scope}), ALL_USERS)
        for scope in (others, "", str(row.scope).upper(), f"x{row.scope}"):
            answer = await office.ask(route, issuer.token(scope=scope))
            assert (answer.status_code, answer.json()["type"]) == (403, "insufficient-scope"), (route, scope)


async def test_one_that_is_not_right_is_401(office: Office, issuer: Issuer) -> None:
    whole = scoped(*SCOPES, ALL_USERS)
    now = office.desk.clock.now().timestamp()
    for token in (
        issuer.token(scope=whole, exp=int(now) - 60),
        issuer.token(scope=whole, nbf=int(now) + 60),
        issuer.token(scope=whole, aud="another"),
        issuer.token(scope=whole, iss="https://evil.example/"),
        issuer.token(scope=whole, by=key("another"), header={"kid": "first"}),
    ):
        for route in GUARDED:
            assert_not_authenticated(await office.ask(route, token), given=True)


async def test_keys_and_tokens_let_in_side_by_side(office: Office, issuer: Issuer) -> None:
    route = ("GET", "/api/bg/{user_id}")
    assert (await office.ask(route, await office.key(Scope.READINGS_READ))).status_code == 200
    assert (await office.ask(route, issuer.token(sub=ADA))).status_code == 200


async def test_while_the_issuer_is_away_it_is_503_and_says_when_to_ask_again(office: Office, issuer: Issuer) -> None:
    issuer.failing = httpx.ConnectError("away")
    token = issuer.token(scope=scoped(*SCOPES, ALL_USERS))
    for route in GUARDED:
        answer = await office.ask(route, token)
        assert (answer.status_code, answer.json()["type"]) == (503, "issuer-unavailable"), route
        assert int(answer.headers["retry-after"]) >= 1, route
    route = ("GET", "/api/bg/{user_id}/latest")
    assert (await office.ask(route, await office.key(*SCOPES))).status_code == MATRIX[route].right


async def test_a_token_ends_while_it_is_in_use(office: Office, issuer: Issuer) -> None:
    route, token = ("GET", "/api/bg/{user_id}"), issuer.token(sub=ADA)
    assert (await office.ask(route, token)).status_code == 200
    office.desk.clock.advance(timedelta(minutes=6))
    assert_not_authenticated(await office.ask(route, token), given=True)
