"""Connections over HTTP: begun, finished, shown, configured, disconnected."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from bg_ingest.domain.ids import ConnectionId
from tests.fakes.fake_provider import FakeProvider
from tests.harness.api import ADA, ApiHarness, open_api
from tests.unit.api.test_validation import assert_problem

ALL = "/api/users/ada/connections"
ONE = f"{ALL}/acme"
CALLBACK = "/api/oauth/acme/callback"


@pytest.fixture
def acme() -> FakeProvider:
    return FakeProvider()


@pytest.fixture
async def api(acme: FakeProvider) -> AsyncIterator[ApiHarness]:
    async with open_api(acme=acme) as opened:
        yield opened


async def begin(api: ApiHarness, **body: str) -> str:
    """Return the OAuth state of a new connect."""
    answer = await api.http.post(ONE, json=body) if body else await api.http.post(ONE)
    assert answer.status_code == 201, answer.text
    url: str = answer.json()["authorize_url"]
    return parse_qs(urlsplit(url).query)["state"][0]


async def connect(api: ApiHarness) -> httpx.Response:
    return await api.http.get(CALLBACK, params={"state": await begin(api), "code": "fine"})


async def test_a_connect_begins_with_where_to_go_and_until_when(api: ApiHarness) -> None:
    answer = await api.http.post(ONE)
    assert answer.status_code == 201
    assert set(answer.json()) == {"authorize_url", "expires_at"}
    assert answer.json()["authorize_url"].startswith("https://us.acme.test/login?state=")
    assert answer.json()["expires_at"] == "2026-03-02T12:15:00Z"
    assert answer.headers["cache-control"] == "no-store"
    elsewhere = await api.http.post(ONE, json={"region": "ou"})
    assert elsewhere.json()["authorize_url"].startswith("https://ou.acme.test/")


@pytest.mark.parametrize("body", [b"", b"{}", b"null", b'{"region":null}'])
async def test_the_region_may_be_left_out(api: ApiHarness, body: bytes) -> None:
    answer = await api.http.post(ONE, content=body, headers={"Content-Type": "application/json"})
    assert answer.json()["authorize_url"].startswith("https://us.")


async def test_an_unknown_provider_or_region_is_answered_with_the_known_ones(api: ApiHarness) -> None:
    answer = await api.http.post(f"{ALL}/other")
    assert_problem(answer, 404, "unknown")
    assert "acme" in answer.json()["detail"]
    answer = await api.http.post(ONE, json={"region": "mars"})
    assert_problem(answer, 409, "not-possible")
    assert "us, ou" in answer.json()["detail"]


async def test_after_the_callback_the_connection_exists(api: ApiHarness) -> None:
    page = await connect(api)
    assert page.status_code == 200
    assert "<h1>Connected</h1>" in page.text
    status = (await api.http.get(ONE)).json()
    next_poll_at = status.pop("next_poll_at")
    assert len(next_poll_at) == len("2026-03-02T12:15:00Z")
    assert status == {
        "provider": "acme",
        "state": "active",
        "reason": None,
        "region": "us",
        "connected_at": "2026-03-02T12:00:00Z",
        "newest_reading_at": None,
        "last_outcome": None,
        "last_outcome_at": None,
        "observed_delay_seconds": 0,
        "backfill_done": 0.0,
        "backfill_left": {"from": "2025-12-02T12:00:00Z", "to": "2026-03-02T12:00:00Z"},
        "worker": {"poll_interval_seconds": 900, "paused": False, "backfill_days": 90},
    }
    (listed,) = (await api.http.get(ALL)).json()
    assert listed == status | {"next_poll_at": next_poll_at}


async def test_without_connections_there_is_nothing_to_see_or_steer(api: ApiHarness) -> None:
    for method, path in [
        ("GET", ALL),
        ("GET", ONE),
        ("PATCH", f"{ONE}/worker"),
        ("POST", f"{ONE}/poll"),
        ("DELETE", ONE),
    ]:
        answer = await api.http.request(method, path, json={} if method == "PATCH" else None)
        assert_problem(answer, 404, "unknown")


@pytest.mark.parametrize(
    ("body", "worker"),
    [
        ({}, {}),
        ({"poll_interval_seconds": 60}, {"poll_interval_seconds": 60}),
        ({"poll_interval_seconds": 86_400}, {"poll_interval_seconds": 86_400}),
        ({"backfill_days": 0}, {"backfill_days": 0}),
        ({"paused": True, "backfill_days": 3_650}, {"paused": True, "backfill_days": 3_650}),
    ],
)
async def test_any_subset_of_the_settings_changes_and_the_rest_stays(
    api: ApiHarness, body: dict[str, Any], worker: dict[str, Any]
) -> None:
    await connect(api)
    before = (await api.http.get(ONE)).json()["worker"]
    answer = await api.http.patch(f"{ONE}/worker", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["worker"] == before | worker
    assert (await api.http.get(ONE)).json() == answer.json()


async def test_null_brings_a_default_back(api: ApiHarness) -> None:
    await connect(api)
    before = (await api.http.get(ONE)).json()["worker"]
    settings = {"poll_interval_seconds": 60, "paused": True, "backfill_days": 1}
    assert (await api.http.patch(f"{ONE}/worker", json=settings)).json()["worker"] == settings
    back = await api.http.patch(f"{ONE}/worker", json=dict.fromkeys(settings))
    assert (back.json()["worker"], back.json()["state"]) == (before, "active")


async def test_pausing_shows_in_the_state_and_forbids_a_poll(api: ApiHarness) -> None:
    await connect(api)
    paused = await api.http.patch(f"{ONE}/worker", json={"paused": True})
    assert (paused.json()["state"], paused.json()["next_poll_at"]) == ("paused", None)
    assert_problem(await api.http.post(f"{ONE}/poll"), 409, "not-possible")
    await api.http.patch(f"{ONE}/worker", json={"paused": False})
    answer = await api.http.post(f"{ONE}/poll")
    assert (answer.status_code, answer.content) == (202, b"")


async def test_disconnecting_leaves_the_readings_and_forgets_the_credentials(api: ApiHarness) -> None:
    await connect(api)
    answer = await api.http.delete(ONE)
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await api.http.get(ONE)).json()["state"] == "disconnected"
    assert (await api.http.get("/api/bg/ada")).text == "[]"
    assert (await api.store.connections.get_with_grant(ConnectionId(ADA, "acme")))[1] is None


async def test_a_connect_that_lies_about_for_long_expires(api: ApiHarness) -> None:
    state = await begin(api)
    api.clock.advance(timedelta(minutes=16))
    page = await api.http.get(CALLBACK, params={"state": state, "code": "fine"})
    assert page.status_code == 400
    assert "expired" in page.text
