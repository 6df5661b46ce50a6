"""Login: redirects with a code or a refusal. Token endpoint: fields and errors."""

from urllib.parse import urlencode

import httpx
import pytest

from tests.harness.simulator_visitor import CLIENT, REDIRECT_URI, answer_of
from tests.unit.simulator.conftest import Visit


async def test_choosing_a_user_redirects_with_code_and_state(visit: Visit) -> None:
    visitor = visit()
    page = await visitor.login()
    answer = answer_of(await visitor.http.post(page.request.url, data={"user": "SandboxUser3"}))
    assert answer["state"] == "a state & more"
    assert (await visitor.exchange(answer["code"])).status_code == 200


async def test_declining_redirects_with_access_denied_and_state(visit: Visit) -> None:
    visitor = visit()
    page = await visitor.login()
    answer = answer_of(await visitor.http.post(page.request.url, data={"decline": "yes"}))
    assert answer == {"error": "access_denied", "state": "a state & more"}


async def test_the_shortcut_needs_no_page_and_the_old_address_still_works(visit: Visit) -> None:
    visitor = visit()
    assert "code" in answer_of(await visitor.login(user="SandboxUser2"))
    old = (await visitor.login(user="SandboxUser2")).request.url.copy_with(path="/v2/oauth2/login")
    assert "code" in answer_of(await visitor.http.get(old))


async def test_an_answer_is_added_to_the_query_an_address_already_has(visit: Visit) -> None:
    redirect = await visit().login(user="SandboxUser1", redirect_uri=f"{REDIRECT_URI}?a=1")
    assert redirect.headers["location"].startswith(f"{REDIRECT_URI}?a=1&code=")


@pytest.mark.parametrize(
    "changed",
    [
        {"client_id": "somebody-else"},
        {"redirect_uri": ""},
        {"redirect_uri": "javascript:alert(1)"},
        {"redirect_uri": "https://app.test;evil/x"},
        {"redirect_uri": "https://app.test/\r\nx: y"},
        {"redirect_uri": "https://app.test/#part"},
        {"user": "Nobody"},
        {"user": "<b>"},
    ],
)
async def test_an_unsafe_redirect_is_replaced_by_a_page(visit: Visit, changed: dict[str, str]) -> None:
    answer = await visit().login(**({"user": "SandboxUser1"} | changed))
    assert answer.status_code == 400
    assert "location" not in answer.headers
    assert "<b>" not in answer.text.replace("<b>Sandbox", "")


@pytest.mark.parametrize(
    ("changed", "error"),
    [({"response_type": "token"}, "unsupported_response_type"), ({"scope": "everything"}, "invalid_scope")],
)
async def test_a_wrong_login_request_is_reported_to_the_client(
    visit: Visit, changed: dict[str, str], error: str
) -> None:
    assert answer_of(await visit().login(**changed))["error"] == error


async def test_registered_addresses_are_matched_to_the_letter(visit: Visit) -> None:
    visitor = visit(redirect_uris=(REDIRECT_URI,))
    assert (await visitor.login()).status_code == 200
    assert (await visitor.login(redirect_uri=f"{REDIRECT_URI}/")).status_code == 400


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
