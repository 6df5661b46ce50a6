"""What every answer carries, and what the open routes say."""

import re

import pytest

from tests.api.desk import Desk

ANY = ["/api/bg/ada", "/api/bg/ada%0A", "/nowhere", "/health/live", "/schema", "/schema/page", "/api/oauth/x/callback"]


@pytest.mark.parametrize("path", ANY)
async def test_every_answer_forbids_browsers_to_do_more_than_show_it(desk: Desk, path: str) -> None:
    headers = (await desk.http.get(path)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in headers["content-security-policy"]


@pytest.mark.parametrize("path", ANY)
async def test_the_callers_request_id_comes_back(desk: Desk, path: str) -> None:
    answer = await desk.http.get(path, headers={"X-Request-Id": "Trace-1.2_3"})
    assert answer.headers["x-request-id"] == "Trace-1.2_3"


@pytest.mark.parametrize("given", [None, "", "a" * 65, "two words", "<b>", "ä".encode(), b"a\n", ".."])
async def test_a_missing_or_strange_request_id_is_replaced(desk: Desk, given: str | bytes | None) -> None:
    headers = {} if given is None else {"X-Request-Id": given}
    answers = [await desk.http.get("/health/live", headers=headers) for _ in range(2)]  # type: ignore[arg-type] # bytes too
    ids = [each.headers["x-request-id"] for each in answers]
    assert all(re.fullmatch(r"[0-9a-f]{32}", each) for each in ids)
    assert ids[0] != ids[1]


async def test_readiness_names_the_reasons(desk: Desk) -> None:
    assert (await desk.http.get("/health/ready")).json() == {"status": "ready"}
    desk.vitals.broken = ["broker"]
    assert (await desk.http.get("/health/ready")).json() == {"status": "ready", "degraded": ["broker"]}
    desk.vitals.reasons = ["draining"]
    answer = await desk.http.get("/health/ready")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.json()["type"], answer.json()["reasons"]) == ("not-ready", ["draining"])


async def test_being_alive_depends_on_nothing(desk: Desk) -> None:
    desk.vitals.reasons = ["starting"]
    answer = await desk.http.get("/health/live")
    assert answer.status_code == 200
    assert desk.table.asked == (0, 0, 0)
