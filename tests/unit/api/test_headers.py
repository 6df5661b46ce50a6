"""Headers of all answers, and the content of the open routes."""

import re

import pytest

from tests.harness.api import ApiHarness

HSTS = "strict-transport-security"

ANY = ["/api/bg/ada", "/api/bg/ada%0A", "/nowhere", "/health/live", "/schema", "/schema/page", "/api/oauth/x/callback"]


@pytest.mark.parametrize("path", ANY)
async def test_every_answer_forbids_browsers_to_do_more_than_show_it(api: ApiHarness, path: str) -> None:
    headers = (await api.http.get(path)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in headers["content-security-policy"]


@pytest.mark.parametrize("path", ANY)
async def test_no_cache_keeps_an_answer_without_permission(api: ApiHarness, path: str) -> None:
    assert (await api.http.get(path)).headers["cache-control"] in {"no-store", "private, no-cache"}


async def test_browsers_come_back_by_https_only(api: ApiHarness) -> None:
    async def returned_id(**headers: str) -> str | None:
        found: str | None = (await api.http.get("/health/live", headers=headers)).headers.get(HSTS)
        return found

    assert await returned_id() is None
    assert await returned_id(**{"X-Forwarded-Proto": "http"}) is None
    assert await returned_id(**{"X-Forwarded-Proto": "https"}) == "max-age=31536000"
    by_https = await api.http.get("https://ingest.test/health/live")
    assert by_https.headers[HSTS] == "max-age=31536000"


@pytest.mark.parametrize("path", ANY)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
async def test_other_sites_get_nothing(api: ApiHarness, path: str, method: str) -> None:
    """No CORS: without these headers a browser shows the page of another site nothing, and asks no further."""
    sent = {"Origin": "https://evil.example", "Access-Control-Request-Method": "DELETE"}
    answer = await api.http.request(method, path, headers=sent)
    assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("path", ANY)
async def test_the_callers_request_id_comes_back(api: ApiHarness, path: str) -> None:
    answer = await api.http.get(path, headers={"X-Request-Id": "Trace-1.2_3"})
    assert answer.headers["x-request-id"] == "Trace-1.2_3"


@pytest.mark.parametrize("given", [None, "", "a" * 65, "two words", "<b>", "ä".encode(), b"a\n", ".."])
async def test_a_missing_or_strange_request_id_is_replaced(api: ApiHarness, given: str | bytes | None) -> None:
    headers = {} if given is None else {"X-Request-Id": given}
    answers = [await api.http.get("/health/live", headers=headers) for _ in range(2)]  # type: ignore[arg-type] # bytes too
    ids = [each.headers["x-request-id"] for each in answers]
    assert all(re.fullmatch(r"[0-9a-f]{32}", each) for each in ids)
    assert ids[0] != ids[1]


async def test_the_methods_of_a_path_are_all_listed(api: ApiHarness) -> None:
    answer = await api.http.options("/api/users/ada/connections/acme")
    assert (answer.status_code, answer.headers["allow"]) == (204, "DELETE, GET, HEAD, OPTIONS, POST")
