"""The page after a provider's login: the result and the next step."""

from collections.abc import AsyncIterator
from datetime import timedelta
from html.parser import HTMLParser

import anyio
import anyio.lowlevel
import httpx
import pytest

from bg_ingest.api.auth import DEFAULT_LIMITS
from bg_ingest.api.page import PageFiles
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.errors import (
    GrantRejected,
    ProviderForbidden,
    ProviderMisbehaved,
    ProviderThrottled,
    ProviderUnavailable,
)
from bg_ingest.services.connections.connect import STATE_LIFETIME
from tests.fakes.fake_provider import FakeProvider
from tests.harness.api import ADA, ApiHarness, open_api
from tests.unit.api.test_connections import CALLBACK, begin, connect


@pytest.fixture
def acme() -> FakeProvider:
    return FakeProvider()


@pytest.fixture
async def api(acme: FakeProvider) -> AsyncIterator[ApiHarness]:
    async with open_api(acme=acme) as opened:
        yield opened


class PageReader(HTMLParser):
    """Text of a page, and the elements by which it would load or run something."""

    def __init__(self, page: httpx.Response) -> None:
        super().__init__()
        self.shown = ""
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        self.feed(page.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.shown += data


def assert_harmless(page: httpx.Response) -> PageReader:
    reader = PageReader(page)
    assert not reader.tags & {"script", "img", "link", "iframe", "form", "object"}
    assert not {each for each in reader.attributes if each.startswith("on")} | (reader.attributes & {"src", "style"})
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert page.headers["referrer-policy"] == "no-referrer"
    return reader


async def test_a_finished_connect_says_so(api: ApiHarness) -> None:
    page = await connect(api)
    assert page.status_code == 200
    assert page.headers["cache-control"] == "no-store"
    assert "Connected" in assert_harmless(page).shown


async def test_it_leads_back_to_the_page_without_naming_the_user(api: ApiHarness) -> None:
    for page in (await connect(api), await api.http.get(CALLBACK, params={"error": "access_denied"})):
        assert '<a href="/#/connect">' in page.text
        assert ADA not in page.text


async def test_without_the_page_it_leads_nowhere(api: ApiHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.app.state, "page_files", PageFiles())
    assert "href" not in assert_harmless(await connect(api)).attributes


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"error": "access_denied"}, "did not allow"),
        ({"error": "access_denied", "code": ""}, "did not allow"),
        ({"error": "access_denied", "state": "made-up"}, "did not allow"),
        ({"error": "access_denied", "code": "fine"}, "did not allow"),
        ({}, "could not finish"),
        ({"error": "server_error"}, "could not finish"),
        ({"error": "temporarily_unavailable", "code": "fine"}, "could not finish"),
        ({"error": "whatever"}, "could not finish"),
        ({"error": "server_error", "state": "made-up"}, "expired or was used already"),
        ({"state": "made-up", "code": "fine"}, "expired or was used already"),
        ({"state": "", "code": "fine"}, "expired or was used already"),
        ({"state": "x" * 43, "code": "fine"}, "expired or was used already"),
    ],
)
async def test_a_connect_that_was_declined_or_made_up_says_what_to_do(
    api: ApiHarness, query: dict[str, str], says: str
) -> None:
    page = await api.http.get(CALLBACK, params={"state": await begin(api)} | query)
    assert page.status_code == 400
    shown = assert_harmless(page).shown
    assert says in shown
    assert "start" in shown, "the page names the next step"
    assert "location" not in page.headers
    assert (await api.http.get("/api/bg/ada")).status_code == 404, "nothing was connected"


@pytest.mark.parametrize("state", ["made-up", "x" * 42, "x" * 44, "x" * 42 + "+", "x" * 42 + "é", "x" * 43 + "\n", ""])
async def test_a_state_that_cannot_be_ours_costs_no_call_of_the_store(api: ApiHarness, state: str) -> None:
    asked = api.table.asked
    page = await api.http.get(CALLBACK, params={"state": state, "code": "fine"})
    assert "expired or was used already" in assert_harmless(page).shown
    assert api.table.asked == asked


@pytest.mark.slow
async def test_too_many_callbacks_are_answered_with_a_later_time(api: ApiHarness) -> None:
    begun = {"state": await begin(api), "code": "fine"}
    for _ in range(DEFAULT_LIMITS.burst):
        await api.http.get(CALLBACK, params={"state": "made-up", "code": "fine"})
    page = await api.http.get(CALLBACK, params=begun)
    assert (page.status_code, page.headers["retry-after"]) == (429, "1")
    assert "load this page again" in assert_harmless(page).shown
    assert (await api.http.get("/api/users/ada/connections")).status_code == 200, "other causes have their own text"
    await anyio.sleep(1)
    assert (await api.http.get(CALLBACK, params=begun)).status_code == 200, "the OAuth state is still valid"


async def test_f12_a_repeated_callback_shows_the_success_page_and_exchanges_once(
    api: ApiHarness, acme: FakeProvider
) -> None:
    asked = {"state": await begin(api), "code": "fine"}
    first = await api.http.get(CALLBACK, params=asked)
    connection = await api.store.connections.get(ConnectionId(ADA, "acme"))
    for repeated in (asked, asked | {"code": "other"}, {"state": asked["state"]}):
        again = await api.http.get(CALLBACK, params=repeated)
        assert (again.status_code, again.text) == (200, first.text)
    assert acme.exchanged == ["us"]
    assert await api.store.connections.get(ConnectionId(ADA, "acme")) == connection


async def test_f12_no_longer_once_its_connection_is_gone(api: ApiHarness) -> None:
    asked = {"state": await begin(api), "code": "fine"}
    assert (await api.http.get(CALLBACK, params=asked)).status_code == 200
    later = {"state": await begin(api), "code": "fine"}
    assert (await api.http.get(CALLBACK, params=later)).status_code == 200
    api.clock.advance(timedelta(minutes=1))
    again = await api.http.get(CALLBACK, params=asked)
    assert again.status_code == 400, "another state made the connection that exists now"
    assert "used already" in assert_harmless(again).shown
    await api.http.delete("/api/users/ada/connections/acme")
    assert (await api.http.get(CALLBACK, params=later)).status_code == 400
    third = {"state": await begin(api), "code": "fine"}
    await api.http.get(CALLBACK, params=third)
    await anyio.lowlevel.checkpoint()
    api.clock.advance(STATE_LIFETIME)
    assert (await api.http.get(CALLBACK, params=third)).status_code == 400, "a state ends after its lifetime"


async def test_f12_an_erased_user_has_no_success_page(api: ApiHarness) -> None:
    asked = {"state": await begin(api), "code": "fine"}
    assert (await api.http.get(CALLBACK, params=asked)).status_code == 200
    await api.http.delete("/api/users/ada")
    assert (await api.http.get(CALLBACK, params=asked)).status_code == 400


@pytest.mark.parametrize("failing", ["connect", "available"])
@pytest.mark.parametrize("failure", [ProviderUnavailable(), ProviderThrottled()])
async def test_f12_after_a_failure_that_passes_the_page_can_be_loaded_again(
    api: ApiHarness, acme: FakeProvider, failing: str, failure: Exception
) -> None:
    asked = {"state": await begin(api), "code": "fine"}
    acme.failures[failing] = [failure]
    assert (await api.http.get(CALLBACK, params=asked)).status_code == 503
    await anyio.sleep(60)  # a refused call pauses the others
    api.clock.advance(timedelta(seconds=60))
    acme.failures.clear()
    assert (await api.http.get(CALLBACK, params=asked)).status_code == 200


async def test_f12_after_a_refusal_for_good_it_cannot(api: ApiHarness, acme: FakeProvider) -> None:
    asked = {"state": await begin(api), "code": "fine"}
    acme.failures["connect"] = [GrantRejected()]
    assert (await api.http.get(CALLBACK, params=asked)).status_code == 400
    acme.failures.clear()
    began = anyio.current_time()
    assert (await api.http.get(CALLBACK, params=asked)).status_code == 400
    assert anyio.current_time() == began, "nothing is waited for"


async def test_unknown_parameters_are_ignored_here(api: ApiHarness) -> None:
    asked = {"state": await begin(api), "code": "fine", "session_state": "x", "iss": "https://acme.test"}
    assert (await api.http.get(CALLBACK, params=asked)).status_code == 200


@pytest.mark.parametrize(
    ("failure", "status", "says"),
    [
        (GrantRejected(), 400, "start connecting again"),
        (ProviderUnavailable("SECRET"), 503, "in a few minutes"),
        (ProviderThrottled(timedelta(minutes=2)), 503, "in a few minutes"),
        (ProviderMisbehaved("SECRET"), 502, "begin connecting again"),
        (ProviderForbidden("SECRET"), 502, "begin connecting again"),
        (RuntimeError("SECRET"), 500, "begin connecting again"),
    ],
)
async def test_what_went_wrong_elsewhere_is_a_page_too(
    api: ApiHarness, acme: FakeProvider, failure: Exception, status: int, says: str
) -> None:
    acme.failure = failure
    page = await connect(api)
    assert page.status_code == status
    shown = assert_harmless(page).shown
    assert says in shown
    assert "SECRET" not in page.text
    assert ("retry-after" in page.headers) is (status == 503)


@pytest.mark.parametrize("provider", ["other", "ACME", "%3Cscript%3E", "acme%0A"])
async def test_an_unknown_provider_is_a_page_too(api: ApiHarness, provider: str) -> None:
    page = await api.http.get(f"/api/oauth/{provider}/callback?state=x&code=y")
    assert page.status_code == 404
    assert_harmless(page)


async def test_what_comes_in_is_not_shown(api: ApiHarness) -> None:
    asked = {"state": await begin(api), "error": "<b>", "error_description": "<script>alert(1)</script>"}
    page = await api.http.get(CALLBACK, params=asked)
    assert_harmless(page)
    assert "alert" not in page.text


@pytest.mark.parametrize("error", ["invalid_scope", "unauthorized_client"])
async def test_a_failure_that_a_retry_cannot_cure_does_not_ask_for_one(api: ApiHarness, error: str) -> None:
    page = await api.http.get(CALLBACK, params={"state": await begin(api), "error": error})
    assert page.status_code == 400
    assert "inform its operator" in assert_harmless(page).shown


@pytest.mark.parametrize("twice", ["code=a&code=b", "code=a&state=other", "error=&error=access_denied"])
async def test_a_repeated_parameter_connects_no_user(api: ApiHarness, acme: FakeProvider, twice: str) -> None:
    page = await api.http.get(f"{CALLBACK}?state={await begin(api)}&{twice}")
    assert page.status_code == 400
    assert "start" in assert_harmless(page).shown or "begin" in page.text
    assert acme.exchanged == []
    assert (await api.http.get("/api/bg/ada")).status_code == 404


@pytest.mark.parametrize("where", ["redirect_uri", "next", "return_to", "url", "redirect"])
async def test_the_page_redirects_nowhere(api: ApiHarness, where: str) -> None:
    elsewhere = {where: "https://evil.test/"}
    for asked in ({"state": await begin(api), "code": "fine"}, {"state": "made-up", "code": "fine"}):
        page = await api.http.get(CALLBACK, params=asked | elsewhere)
        assert page.status_code in (200, 400)
        assert "location" not in page.headers
        assert "refresh" not in page.headers
        assert "evil" not in page.text
        assert "meta http-equiv" not in page.text.lower()
    refused = await api.http.post("/api/users/ada/connections/acme", json=elsewhere)
    assert refused.status_code == 400, "the address of the return is the operator's setting alone"


async def test_a_state_works_for_the_provider_it_was_made_for_only(acme: FakeProvider) -> None:
    other = FakeProvider()
    async with open_api(acme=acme, other=other) as api:
        asked = {"state": await begin(api), "code": "fine"}
        page = await api.http.get("/api/oauth/other/callback", params=asked)
        assert page.status_code == 400
        assert "start connecting again" in assert_harmless(page).shown
        assert other.exchanged == []
        assert (await api.http.get("/api/users/ada/connections/other")).status_code == 404
        assert (await api.http.get(CALLBACK, params=asked)).status_code == 400, "this use spends the state"


async def test_a_state_brings_the_region_it_was_made_with(api: ApiHarness, acme: FakeProvider) -> None:
    page = await api.http.get(CALLBACK, params={"state": await begin(api, region="ou"), "code": "fine", "region": "us"})
    assert page.status_code == 200
    assert acme.exchanged == ["ou"]
    assert (await api.http.get("/api/users/ada/connections/acme")).json()["region"] == "ou"


async def test_states_are_long_and_never_the_same(api: ApiHarness) -> None:
    states = {await begin(api) for _ in range(50)}
    assert len(states) == 50
    assert min(map(len, states)) >= 43, "256 bits in base64"
