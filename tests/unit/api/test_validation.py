"""Invalid requests are refused with an instruction, and no part of them reaches the store."""

from collections.abc import AsyncIterator

import anyio
import httpx
import msgspec
import pytest

from bg_ingest.api.validation import BODY_TIMEOUT, MAX_INCOMPLETE_BODIES
from tests.harness.api import ApiHarness, reading

TOO_LONG = "a" * 129
BIG = b'{"region":"' + b"x" * 70_000 + b'"}'
WORKER = "/api/users/ada/connections/acme/worker"

REFUSED_REQUESTS: list[tuple[str, int, str]] = [
    ("/api/bg/a%0A", 400, "invalid-user-id"),
    ("/api/bg/a%0A/latest", 400, "invalid-user-id"),
    ("/api/bg/%0Aa/latest", 400, "invalid-user-id"),
    ("/api/bg/a%23b/latest", 400, "invalid-user-id"),
    ("/api/bg/-a/latest", 400, "invalid-user-id"),
    ("/api/bg/%C3%A4/latest", 400, "invalid-user-id"),
    (f"/api/bg/{TOO_LONG}/latest", 400, "invalid-user-id"),
    ("/api/users/a%0A/connections", 400, "invalid-user-id"),
    ("/api/users/a%0A/connections/acme", 400, "invalid-user-id"),
    ("/api/bg//latest", 404, "no-such-path"),
    ("/api/bg/%2F/latest", 404, "no-such-path"),
    ("/api/users/ada/connections/ACME", 404, "unknown"),
    ("/api/users/ada/connections/acme%0A", 404, "unknown"),
    ("/api/users/ada/connections/acme%23x", 404, "unknown"),
    ("/api/bg/ada?form=2026-01-01", 400, "unknown-parameter"),
    ("/api/bg/ada?From=2026-01-01", 400, "unknown-parameter"),
    ("/api/bg/ada/latest?from=2026-01-01", 400, "unknown-parameter"),
    ("/api/bg/ada/latest?=1", 400, "unknown-parameter"),
    ("/api/bg/ada?user_id=eve", 400, "unknown-parameter"),
    ("/api/users/ada/connections?x", 400, "unknown-parameter"),
    ("/health/live?x=1", 400, "unknown-parameter"),
    ("/api/bg/ada?view=full&view=basic", 400, "repeated-parameter"),
    ("/api/bg/ada?from=2026-01-01&from=", 400, "repeated-parameter"),
    ("/api/bg/ada?view=FULL", 400, "invalid-view"),
    ("/api/bg/ada/latest?view=all", 400, "invalid-view"),
    ("/api/bg/ada?from=2026-03-02T10:00:00", 400, "invalid-time"),
    ("/api/bg/ada?from=yesterday", 400, "invalid-time"),
    ("/api/bg/ada?from=2026-02-30", 400, "invalid-time"),
    ("/api/bg/ada?from=2026-03-02%0A", 400, "invalid-time"),
    ("/api/bg/ada?from=2026-03-02T10:00:00Z%0A", 400, "invalid-time"),
    ("/api/bg/ada?from=1740909600", 400, "invalid-time"),
    ("/api/bg/ada?from=20260302T100000Z", 400, "invalid-time"),
    ("/api/bg/ada?from=2026-03-02T10:00Z", 400, "invalid-time"),
    ("/api/bg/ada?from=2026-03-02T24:00:00Z", 400, "invalid-time"),
    ("/api/bg/ada?from=2026-03-02T23:59:60Z", 400, "invalid-time"),
    ("/api/bg/ada?from=2026-03-02T10:00:00%2B24:00", 400, "invalid-time"),
    ("/api/bg/ada?from=0026-03-02", 400, "invalid-time"),
    ("/api/bg/ada?to=9999-12-31T23:59:59-05:00", 400, "invalid-time"),
    ("/api/bg/ada?from=%D9%A2%D9%A0%D9%A2%D9%A6-03-02", 400, "invalid-time"),
    ("/api/bg/ada?from=2026-03-02&to=2026-03-02", 400, "invalid-range"),
    ("/api/bg/ada?from=2026-03-02&to=2026-03-01", 400, "invalid-range"),
    ("/api/bg/ada?from=2026-03-02T12:00:00Z", 400, "invalid-range"),
    ("/nowhere", 404, "no-such-path"),
    ("/schema/nowhere", 404, "no-such-path"),
    ("/api/bg", 404, "no-such-path"),
]


def assert_problem(answer: httpx.Response, status: int, slug: str) -> None:
    assert (answer.status_code, answer.json()["type"]) == (status, slug), (str(answer.request.url)[:200], answer.text)
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(answer.json()) == {"type", "title", "status", "detail"}
    assert answer.json()["status"] == status
    assert len(answer.json()["detail"]) > 30, "the detail says what to do"


async def test_a_bad_request_is_refused_before_anything_is_read(api: ApiHarness) -> None:
    await api.add_readings(reading(-1))
    before = api.table.asked
    for path, status, slug in REFUSED_REQUESTS:
        assert_problem(await api.http.get(path), status, slug)
        assert api.table.asked == before, path


async def test_a_bad_write_is_refused_before_anything_is_read(api: ApiHarness) -> None:
    for method, path, body, status, slug in (
        ("PATCH", WORKER, b"", 400, "invalid-body"),
        ("PATCH", WORKER, b"{", 400, "invalid-body"),
        ("PATCH", WORKER, b"\xff", 400, "invalid-body"),
        ("PATCH", WORKER, b'{"paused":"\xff"}', 400, "invalid-body"),
        ("PATCH", WORKER, b"[" * 60_000, 400, "invalid-body"),
        ("PATCH", WORKER, b'{"paused":' + b"[" * 60_000, 400, "invalid-body"),
        ("PATCH", WORKER, b"[]", 400, "invalid-body"),
        ("PATCH", WORKER, b'{"pause":true}', 400, "invalid-body"),
        ("PATCH", WORKER, b'{"paused":"true"}', 400, "invalid-body"),
        ("PATCH", WORKER, b'{"poll_interval_seconds":"300"}', 400, "invalid-body"),
        ("PATCH", WORKER, b'{"poll_interval_seconds":59}', 400, "invalid-body"),
        ("PATCH", WORKER, b'{"poll_interval_seconds":86401}', 400, "invalid-body"),
        ("PATCH", WORKER, b'{"poll_interval_seconds":300.5}', 400, "invalid-body"),
        ("PATCH", WORKER, b'{"backfill_days":-1}', 400, "invalid-body"),
        ("PATCH", WORKER, b'{"backfill_days":3651}', 400, "invalid-body"),
        ("PATCH", WORKER, BIG, 413, "too-large"),
        ("POST", "/api/users/ada/connections/acme", b'{"regoin":"us"}', 400, "invalid-body"),
        ("POST", "/api/users/ada/connections/acme", b'{"region":1}', 400, "invalid-body"),
        ("POST", "/api/users/ada/connections/acme", BIG, 413, "too-large"),
        ("POST", "/api/users/ada/connections/acme", b"{}", 404, "unknown"),
        ("POST", "/api/users/a%0A/connections/acme", b"{}", 400, "invalid-user-id"),
        ("POST", "/api/users/ada/connections/acme?region=us", b"{}", 400, "unknown-parameter"),
        ("DELETE", "/api/users/a%0A/connections/acme", b"", 400, "invalid-user-id"),
    ):
        answer = await api.http.request(method, path, content=body, headers={"Content-Type": "application/json"})
        assert_problem(answer, status, slug)
        assert api.table.asked == (0, 0, 0), (method, path)


async def test_a_body_that_is_not_said_to_be_json_is_refused(api: ApiHarness) -> None:
    answer = await api.http.patch(WORKER, data={"paused": "true"})
    assert_problem(answer, 415, "unsupported-media-type")
    assert api.table.asked == (0, 0, 0)


class EndlessBody(httpx.AsyncByteStream):
    """Body without a content length."""

    def __init__(self) -> None:
        self.sent = 0

    def __aiter__(self) -> "EndlessBody":
        return self

    async def __anext__(self) -> bytes:
        self.sent += 1
        assert self.sent < 1_000, "the service does not stop reading the body"
        return b" " * 1_000


async def test_a_large_body_without_a_declared_length_is_refused(api: ApiHarness) -> None:
    headers = {"Content-Type": "application/json", "Host": "ingest.test"}
    request = httpx.Request("PATCH", f"http://ingest.test{WORKER}", headers=headers, stream=EndlessBody())
    assert_problem(await api.http.send(request), 413, "too-large")


async def test_an_unknown_method_is_answered_with_the_allowed_ones(api: ApiHarness) -> None:
    answer = await api.http.put("/api/users/ada/connections/acme")
    assert_problem(answer, 405, "method-not-allowed")
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "POST", "DELETE", "OPTIONS"}


async def test_a_problem_says_nothing_of_what_was_sent(api: ApiHarness) -> None:
    for path in ("/api/bg/SECRET?x=SECRET", "/SECRET", "/api/bg/SECRET%0A", "/api/bg/ada?from=SECRET"):
        answer = await api.http.get(path, headers={"Authorization": "Bearer SECRET"})
        assert answer.status_code in (400, 404)
        assert "SECRET" not in answer.text + str(answer.headers)


async def test_a_detail_names_the_field_that_is_wrong(api: ApiHarness) -> None:
    answer = await api.http.patch(WORKER, json={"backfill_days": 99_999})
    assert "backfill_days" in answer.json()["detail"]
    assert "3650" in answer.json()["detail"]
    answer = await api.http.get("/api/bg/ada", params={"to": "noon"})
    assert "'to'" in answer.json()["detail"]
    assert "2025-04-26T14:30:00Z" in answer.json()["detail"]


async def test_empty_parameters_mean_absent(api: ApiHarness) -> None:
    await api.add_readings(reading(-1))
    bare = await api.http.get("/api/bg/ada")
    empty = await api.http.get("/api/bg/ada?from=&to=&view=")
    assert bare.status_code == empty.status_code == 200
    assert msgspec.json.decode(empty.content) == msgspec.json.decode(bare.content) != []


class SlowBody(httpx.AsyncByteStream):
    """Endless body that arrives at a byte a second."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            await anyio.sleep(1)
            yield b" "


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PATCH", "/api/users/ada/connections/acme/worker"),
        ("POST", "/api/users/ada/connections/acme"),
        ("GET", "/api/bg/ada/changes"),
    ],
)
async def test_a_body_that_does_not_come_is_given_up(api: ApiHarness, method: str, path: str) -> None:
    began = anyio.current_time()
    headers = {"host": "ingest.test", "accept": "text/event-stream" if method == "GET" else "*/*"}
    sent = httpx.Request(method, f"http://ingest.test{path}", stream=SlowBody(), headers=headers)
    answer = await api.http.send(sent)
    assert (answer.status_code, answer.json()["type"]) == (408, "too-slow")
    assert anyio.current_time() - began <= 11


async def test_s2_of_many_incomplete_bodies_the_oldest_are_ended_at_once(api: ApiHarness) -> None:
    statuses, ended = list[int](), anyio.Event()

    async def send() -> None:
        request = httpx.Request(
            "PATCH", f"http://ingest.test{WORKER}", stream=SlowBody(), headers={"host": "ingest.test"}
        )
        statuses.append((await api.http.send(request)).status_code)
        if len(statuses) == 3:
            ended.set()

    async with anyio.create_task_group() as group:
        for _ in range(MAX_INCOMPLETE_BODIES + 3):
            group.start_soon(send)
        with anyio.fail_after(BODY_TIMEOUT / 2):
            await ended.wait()
        assert statuses == [408] * 3
        group.cancel_scope.cancel()
