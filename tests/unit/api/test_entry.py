"""HEAD wherever GET is, and encoded slashes as part of a path's part."""

import re
from collections.abc import AsyncIterator

import pytest
from litestar.routes import HTTPRoute

from bg_ingest.api.auth import Access
from tests.fakes.fake_provider import FakeProvider
from tests.harness.api import ApiHarness, open_api, reading
from tests.unit.api.test_connections import connect
from tests.unit.api.test_validation import assert_problem

VALUES = {"user_id": "ada", "provider": "acme", "path": "nothing-here", "file": "main.js"}
QUERIES = {"/api/audit": "?user=ada"}


@pytest.fixture
async def api() -> AsyncIterator[ApiHarness]:
    async with open_api(acme=FakeProvider()) as opened:
        await connect(opened)
        await opened.add_readings(*(reading(number) for number in range(-3, 0)))
        yield opened


def get_paths(api: ApiHarness) -> set[str]:
    """Return every path that answers GET, with values for its parameters."""
    paths = {route.path for route in api.app.routes if isinstance(route, HTTPRoute) and "GET" in route.methods}
    filled = {re.sub(r"{(\w+):\w+}", lambda match: VALUES[match[1]], path) for path in paths}
    return {path + QUERIES.get(path, "") for path in filled}


async def test_f17_head_is_answered_as_get_without_a_body_on_every_route(api: ApiHarness) -> None:
    headers = {"X-Request-Id": "same"}
    paths = get_paths(api)
    assert len(paths) > 15
    for path in paths:
        head, get = await api.http.head(path, headers=headers), await api.http.get(path, headers=headers)
        if path == "/metrics":  # the figures of the process differ
            assert int(head.headers.pop("content-length")) > 0
            del get.headers["content-length"]
        assert (head.status_code, head.headers, head.content) == (get.status_code, get.headers, b""), path


async def test_f17_head_of_a_window_of_years_makes_its_beginning_only(api: ApiHarness) -> None:
    path = "/api/bg/ada?from=2020-01-01&view=full"
    answer = await api.http.head(path, headers={"Accept": "text/csv"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"].startswith("text/csv")
    etag = answer.headers["etag"]
    assert (await api.http.head(path, headers={"Accept": "text/csv", "If-None-Match": etag})).status_code == 304


async def test_f17_head_is_refused_as_get_is(api: ApiHarness) -> None:
    for path, status in {"/api/bg/eve/latest": 404, "/api/bg/a%0A/latest": 400, "/nothing": 404}.items():
        head = await api.http.head(path)
        assert (head.status_code, head.content) == (status, b""), path
    async with open_api(Access.CLOSED) as closed:
        assert (await closed.http.head("/api/bg/ada/latest")).status_code == 401
        assert (await closed.http.head("/health/live")).status_code == 200


async def test_f17_allow_names_head_beside_get(api: ApiHarness) -> None:
    refused = await api.http.put("/api/bg/ada/latest")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert (await api.http.options("/api/bg/ada/latest")).headers["allow"] == "GET, HEAD, OPTIONS"
    only_post = await api.http.head("/api/users/ada/connections/acme/poll")
    assert (only_post.status_code, only_post.headers["allow"]) == (405, "OPTIONS, POST")


@pytest.mark.parametrize("slash", ["%2F", "%2f"])
async def test_f30_an_encoded_slash_is_part_of_the_id(api: ApiHarness, slash: str) -> None:
    for path in (
        f"/api/bg/ada{slash}latest",
        f"/api/bg{slash}ada/latest",
        f"/api/bg/ada{slash}..{slash}ben/latest",
        f"/api/bg/ada/latest{slash}",
        f"/api/users/ada{slash}connections",
        f"/api/users/ada/connections{slash}acme",
        f"/api/users/ada/connections/acme{slash}worker",
        f"/health{slash}live",
        f"{slash}health/live",
        f"/schema{slash}openapi.json",
        f"/api/oauth/acme{slash}callback",
    ):
        for method in ("GET", "HEAD"):
            answer = await api.http.request(method, path)
            assert answer.status_code in {400, 404}, (method, path)


async def test_f30_an_id_with_an_encoded_slash_is_no_id(api: ApiHarness) -> None:
    assert_problem(await api.http.get("/api/bg/ada%2Flatest"), 400, "invalid-user-id")
    assert_problem(await api.http.get("/api/bg/ada%252Flatest"), 400, "invalid-user-id")
    assert (await api.http.get("/api/bg/%61da/latest")).status_code == 200, "other encoded characters are decoded"


async def test_f30_without_a_credential_every_form_is_refused_alike() -> None:
    async with open_api(Access.CLOSED) as closed:
        for path in ("/api/bg/ada%2Flatest", "/api/bg%2Fada/latest", "/nothing%2Fhere"):
            assert_problem(await closed.http.get(path), 401, "not-authenticated")
