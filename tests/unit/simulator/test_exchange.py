"""Token endpoint: fields and errors."""

from urllib.parse import urlencode

import httpx
import pytest

from tests.harness.simulator_visitor import CLIENT
from tests.unit.simulator.conftest import Visit


def refused(answer: httpx.Response, status: int, error: str) -> bool:
    return (answer.status_code, answer.json()) == (status, {"error": error})


async def test_the_answer_has_dexcoms_fields(visit: Visit) -> None:
    visitor = visit()
    answer = await visitor.exchange(await visitor.code("SandboxUser1"))
    pair = answer.json()
    assert set(pair) == {
        *("access_token", "expires_in", "refresh_expires_in", "refresh_token", "token_type"),
        *("not-before-policy", "session_state", "scope"),
    }
    assert (pair["expires_in"], pair["token_type"], pair["scope"]) == (7200, "Bearer", "offline_access")
    assert answer.headers["cache-control"] == "no-store"


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
async def test_a_wrong_token_call_names_its_error(visit: Visit, form: dict[str, str], status: int, error: str) -> None:
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
