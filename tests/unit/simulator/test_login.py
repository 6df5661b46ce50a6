"""Login: redirects with a code or a refusal, and refusals without a redirect."""

import pytest

from tests.harness.simulator_visitor import REDIRECT_URI, answer_of
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
