"""Tokens: exchanged once, rotated on every refresh, dead when their time or their user says so."""

from urllib.parse import urlencode

import httpx
import pytest

from bg_ingest.simulator.journal import token_hash
from tests.harness.simulator_visitor import CLIENT, SetClock
from tests.unit.simulator.conftest import Visit


def refused(answer: httpx.Response, status: int, error: str) -> bool:
    return (answer.status_code, answer.json()) == (status, {"error": error})


async def test_the_answer_has_the_real_fields_odd_ones_included(visit: Visit) -> None:
    visitor = visit()
    answer = await visitor.exchange(await visitor.code("SandboxUser1"))
    pair = answer.json()
    assert set(pair) == {
        *("access_token", "expires_in", "refresh_expires_in", "refresh_token", "token_type"),
        *("not-before-policy", "session_state", "scope"),
    }
    assert (pair["expires_in"], pair["token_type"], pair["scope"]) == (7200, "Bearer", "offline_access")
    assert answer.headers["cache-control"] == "no-store"


async def test_a_code_is_good_once(visit: Visit) -> None:
    visitor = visit()
    code = await visitor.code("SandboxUser1")
    assert (await visitor.exchange(code)).status_code == 200
    assert refused(await visitor.exchange(code), 400, "invalid_grant")


async def test_a_code_is_good_for_a_minute_and_for_its_own_address(visit: Visit, clock: SetClock) -> None:
    visitor = visit()
    code = await visitor.code("SandboxUser1")
    clock.pass_time(seconds=60)
    assert refused(await visitor.exchange(code), 400, "invalid_grant")
    code = await visitor.code("SandboxUser1")
    assert refused(await visitor.exchange(code, "https://app.test/callback/"), 400, "invalid_grant")


async def test_a_refresh_token_is_good_once_and_its_reuse_leaves_the_newer_one_alone(visit: Visit) -> None:
    visitor = visit()
    await visitor.connect()
    first = visitor.refresh_token
    assert (await visitor.rotate()).status_code == 200
    assert visitor.refresh_token != first
    reused = await visitor.token(grant_type="refresh_token", refresh_token=first)
    assert refused(reused, 400, "invalid_grant")
    assert (await visitor.rotate()).status_code == 200


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({"client_id": "other"}, 401, "invalid_client"),
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"client_secret": ""}, 401, "invalid_client"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"grant_type": "refresh_token"}, 400, "invalid_request"),
        ({"grant_type": "refresh_token", "refresh_token": "made.up.by.me.x"}, 400, "invalid_grant"),
        ({"grant_type": "authorization_code", "code": "x"}, 400, "invalid_request"),
        ({}, 400, "invalid_request"),
    ],
)
async def test_a_wrong_token_call_says_what_is_wrong(
    visit: Visit, form: dict[str, str], status: int, error: str
) -> None:
    assert refused(await visit().token(**form), status, error)


async def test_client_credentials_count_only_as_form_fields(visit: Visit) -> None:
    visitor = visit()
    form = {"grant_type": "authorization_code", "code": await visitor.code("SandboxUser1"), "redirect_uri": "x"}
    basic = await visitor.http.post("/v3/oauth2/token", data=form, auth=(CLIENT["client_id"], CLIENT["client_secret"]))
    assert refused(basic, 401, "invalid_client")
    as_json = await visitor.http.post("/v3/oauth2/token", json=form | CLIENT)
    assert refused(as_json, 401, "invalid_client")
    plain = {"content-type": "text/plain"}
    as_text = await visitor.http.post("/v3/oauth2/token", content=urlencode(form | CLIENT), headers=plain)
    assert refused(as_text, 401, "invalid_client")


async def test_an_access_token_lives_two_hours_whatever_is_rotated(visit: Visit, clock: SetClock) -> None:
    visitor = visit()
    await visitor.connect()
    old = visitor.access
    await visitor.rotate()
    visitor.access = old
    clock.pass_time(seconds=7199)
    assert (await visitor.get("dataRange")).status_code == 200
    clock.pass_time(seconds=1)
    expired = await visitor.get("dataRange")
    assert expired.status_code == 401
    assert "invalid_token" in expired.headers["www-authenticate"]


@pytest.mark.parametrize("forge", ["", "nonsense", "refresh"])
async def test_only_an_access_token_opens_the_data(visit: Visit, forge: str) -> None:
    visitor = visit()
    await visitor.connect()
    visitor.access = visitor.refresh_token if forge == "refresh" else forge
    assert (await visitor.get("dataRange")).status_code == 401


async def test_a_token_altered_in_one_character_opens_nothing(visit: Visit) -> None:
    visitor = visit()
    await visitor.connect("SandboxUser1")
    await visitor.connect("SandboxUser2")
    visitor.access = visitor.access.replace("access.2.", "access.1.")
    assert (await visitor.get("dataRange")).status_code == 401


async def test_a_revoked_grant_is_dead_until_the_next_login(visit: Visit) -> None:
    visitor = visit()
    await visitor.connect("SandboxUser1")
    assert (await visitor.http.post("/admin/users/SandboxUser1/revoke")).status_code == 204
    assert (await visitor.get("dataRange")).status_code == 401
    assert refused(await visitor.rotate(), 400, "invalid_grant")
    await visitor.connect("SandboxUser1")
    assert (await visitor.get("dataRange")).status_code == 200


async def test_revoking_one_user_leaves_the_others(visit: Visit) -> None:
    visitor = visit()
    await visitor.connect("SandboxUser2")
    visitor.simulator.revoke("SandboxUser1")
    assert (await visitor.get("dataRange")).status_code == 200
    assert (await visitor.http.post("/admin/users/Nobody/revoke")).status_code == 404


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
