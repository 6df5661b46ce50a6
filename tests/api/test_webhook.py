"""POST webhook, as a sender sees it: whom it lets in, and what it answers. Made-up ones are in ``tests/fuzz``."""

from collections.abc import AsyncIterator, MutableMapping
from datetime import timedelta
from typing import Any

import anyio
import httpx
import pytest

from bg_ingest.api.auth import Access, Limits
from bg_ingest.domain.connections import Defaults
from tests.fakes.faults import Fault, Faulty
from tests.house import PROVIDER, START, House, house
from tests.sender import OTHER_SECRET, SECRET, envelope, raw, record, records, signature, signed

HOUR_AGO = START - timedelta(hours=1)
LARGEST = 1_048_576
ZEROS = {"stored": 0, "duplicates": 0, "revised": 0, "quarantined": 0}


@pytest.fixture
async def home() -> AsyncIterator[House]:
    """Ada is connected; no actors run."""
    async with house(defaults=Defaults(backfill_days=0)) as opened:
        await opened.connect("ada")
        yield opened


async def account(home: House, user: str = "ada") -> str:
    return (await home.connection(user)).provider_account or ""


def assert_problem(answer: httpx.Response, status: int, slug: str) -> None:
    assert (answer.status_code, answer.json()["type"]) == (status, slug), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.json()["detail"]) > 30, "the detail says what to do"


async def test_what_was_pushed_is_served_right_after_the_answer(home: House) -> None:
    answer = await home.push("ada", envelope(await account(home), records(HOUR_AGO, 2)))
    assert answer.status_code == 202
    assert answer.content == b'{"stored":2,"duplicates":0,"revised":0,"quarantined":0}'
    latest = await home.api.get("/api/bg/ada/latest")
    assert latest.json() == {"timestamp": "2026-03-02T11:05:00Z", "glucose_mg_dl": 111}


async def test_it_is_open_to_senders_where_the_api_is_closed() -> None:
    async with house(access=Access.CLOSED) as home:
        assert_problem(await home.push("ada", envelope("x")), 404, "unknown")
        assert_problem(await home.push("ada", envelope("x"), webhook_signature="v1,x"), 401, "invalid-signature")


@pytest.mark.parametrize(
    "changed",
    [
        {"webhook_signature": ""},
        {"webhook_signature": "v1"},
        {"webhook_signature": "v1,a,b"},
        {"webhook_signature": b"v1,\xff\xfe"},
        {"webhook_signature": "v1,é".encode()},
        {"webhook_id": ""},
        {"webhook_timestamp": ""},
        {"webhook_timestamp": "soon"},
        {"webhook_timestamp": "nan"},
        {"webhook_timestamp": b"\xb2"},
        {"webhook_timestamp": "1e9"},
    ],
)
async def test_case_45_headers_that_are_not_right_are_401(home: House, changed: dict[str, Any]) -> None:
    assert_problem(await home.push("ada", envelope(await account(home)), **changed), 401, "invalid-signature")
    assert await home.stored("ada") == []


@pytest.mark.parametrize("missing", ["webhook-id", "webhook-timestamp", "webhook-signature"])
async def test_case_45_a_missing_header_is_401(home: House, missing: str) -> None:
    body = envelope(await account(home))
    headers = {name: value for name, value in signed(body, "msg_1", START).items() if name != missing}
    answer = await home.api.post("/api/bg/ada/webhook", content=body, headers=raw(headers))
    assert_problem(answer, 401, "invalid-signature")


@pytest.mark.parametrize(
    ("secrets", "status"),
    [([SECRET], 202), ([OTHER_SECRET, SECRET], 202), ([OTHER_SECRET], 401), ([], 401)],
)
async def test_case_45_a_secret_of_ours_must_have_signed(secrets: list[str], status: int) -> None:
    async with house(signing_secrets=secrets) as home:
        await home.connect("ada")
        assert (await home.push("ada", envelope(await account(home)))).status_code == status


@pytest.mark.parametrize(("seconds", "status"), [(-301, 401), (-300, 202), (300, 202), (301, 401)])
async def test_case_45_five_minutes_are_tolerated_either_way(home: House, seconds: int, status: int) -> None:
    body = envelope(await account(home), records(HOUR_AGO, 1))
    headers = signed(body, "msg_1", home.clock.now() + timedelta(seconds=seconds))
    answer = await home.api.post("/api/bg/ada/webhook", content=body, headers=raw(headers))
    assert answer.status_code == status
    assert len(await home.stored("ada")) == (status == 202)
    if status == 401:
        assert_problem(answer, 401, "stale-signature")


@pytest.mark.parametrize(
    "content_type",
    ["application/json; charset=utf-8", "text/plain", "application/x-www-form-urlencoded", "nonsense", None],
)
async def test_case_45_no_content_type_is_wrong_the_signed_bytes_say_what_they_are(
    home: House, content_type: str | None
) -> None:
    body = envelope(await account(home), records(HOUR_AGO, 1))
    headers = signed(body, "msg_1", home.clock.now()) | ({"content-type": content_type} if content_type else {})
    answer = await home.api.post("/api/bg/ada/webhook", content=body, headers=raw(headers))
    assert (answer.status_code, answer.json()["stored"]) == (202, 1)


async def test_case_45_a_forged_body_is_not_stored(home: House) -> None:
    genuine = envelope(await account(home), [record(HOUR_AGO, 110)])
    forged = genuine.replace(b"110", b"300")
    right = signature(genuine, "msg_1", str(int(START.timestamp())))
    assert_problem(await home.push("ada", forged, webhook_signature=right), 401, "invalid-signature")
    assert await home.stored("ada") == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"userId":"\xff","records":[]}',
        b"[]",
        b"null",
        b"{}",
        b"[" * 100_000,
        b'{"userId":' * 50_000,
        b'{"recordType":"egv","records":[]}',
        b'{"recordType":"alert","userId":"x","records":[]}',
        b'{"recordType":"egv","userId":"x","records":{}}',
        b'{"recordType":"egv","userId":"x","records":null}',
        b'{"recordType":"egv","userId":1,"records":[]}',
        b'{"recordType":"egv","userId":"\\ud800","records":[]}',
    ],
)
async def test_case_45_what_is_no_envelope_is_400_if_signed_and_401_if_not(home: House, body: bytes) -> None:
    assert_problem(await home.push("ada", body), 400, "invalid-body")
    assert_problem(await home.push("ada", body, webhook_signature="v1,eA=="), 401, "invalid-signature")


async def test_bytes_that_are_no_text_inside_a_record_cost_only_that_record(home: House) -> None:
    body = envelope(await account(home), [record(HOUR_AGO), record(START, displayDevice="#")]).replace(b"#", b"\xff")
    assert (await home.push("ada", body)).json() == ZEROS | {"stored": 1, "quarantined": 1}


async def test_who_has_not_signed_learns_nothing_of_the_path(home: House) -> None:
    for path in ("/api/bg/a%0A/webhook", "/api/bg/ada/webhook?x=1", "/api/bg/nobody/webhook"):
        answer = await home.api.post(path, content=b"{}")
        assert_problem(answer, 401, "invalid-signature")


@pytest.mark.parametrize(
    ("path", "slug"),
    [("/api/bg/a%0A/webhook", "invalid-user-id"), ("/api/bg/ada/webhook?user=eve", "unknown-parameter")],
)
async def test_a_path_that_cannot_be_meant_is_400(home: House, path: str, slug: str) -> None:
    headers = raw(signed(b"{}", "msg_1", START))
    assert_problem(await home.api.post(path, content=b"{}", headers=headers), 400, slug)


async def test_case_45_unknown_disconnected_and_other_persons_are_the_same_404(home: House) -> None:
    await home.connect("bob", "SandboxUser2")
    body = envelope(await account(home), records(HOUR_AGO, 1))
    answers = [await home.push(user, body) for user in ("nobody", "bob")]
    await home.api.delete(f"/api/users/ada/connections/{PROVIDER}")
    answers.append(await home.push("ada", body))
    for answer in answers:
        assert_problem(answer, 404, "unknown")
    assert len({answer.content for answer in answers}) == 1
    assert await home.stored("ada") == await home.stored("bob") == []


async def test_case_45_one_mebibyte_is_taken_and_a_byte_more_is_not(home: House) -> None:
    body = envelope(await account(home), records(HOUR_AGO, 1))
    assert (await home.push("ada", body.ljust(LARGEST))).json()["stored"] == 1
    assert_problem(await home.push("ada", body.ljust(LARGEST + 1), "msg_2"), 413, "too-large")


async def test_what_says_it_is_larger_is_refused_unread_signed_or_not(home: House) -> None:
    headers = {"content-length": str(LARGEST + 1)}
    answer = await home.api.post("/api/bg/ada/webhook", content=b"", headers=headers)
    assert_problem(answer, 413, "too-large")


class Trickle(httpx.AsyncByteStream):
    """A body without a length, that goes on until somebody stops reading."""

    def __init__(self, piece: bytes, pause: float = 0) -> None:
        self.piece, self.pause = piece, pause
        self.sent = 0

    def __aiter__(self) -> "Trickle":
        return self

    async def __anext__(self) -> bytes:
        await anyio.sleep(self.pause)
        self.sent += len(self.piece)
        return self.piece


async def send(home: House, body: Trickle) -> httpx.Response:
    headers = raw({**signed(b"", "msg_1", home.clock.now()), "host": "ingest.test"})
    return await home.api.send(
        httpx.Request("POST", "https://ingest.test/api/bg/ada/webhook", headers=headers, stream=body)
    )


async def test_no_more_than_the_limit_is_read_of_a_body_without_end(home: House) -> None:
    body = Trickle(b" " * 1_000)
    assert_problem(await send(home, body), 413, "too-large")
    assert body.sent <= LARGEST + 1_000


async def test_nothing_is_read_of_a_body_whose_headers_cannot_be_right(home: House) -> None:
    body = Trickle(b" " * 1_000)
    request = httpx.Request("POST", "https://ingest.test/api/bg/ada/webhook", stream=body)
    assert_problem(await home.api.send(request), 401, "invalid-signature")
    assert body.sent <= 1_000


async def test_a_body_that_does_not_come_is_given_up(home: House) -> None:
    before = home.clock.now()
    assert_problem(await send(home, Trickle(b" ", pause=1)), 408, "too-slow")
    assert home.clock.now() - before <= timedelta(seconds=11)


async def test_case_47_a_flood_is_told_to_wait_and_leaves_reads_alone(home: House) -> None:
    await home.push("ada", envelope(await account(home), records(HOUR_AGO, 1)))
    async with anyio.create_task_group() as group:
        for _ in range(64):
            group.start_soon(send, home, Trickle(b" ", pause=1))
        await anyio.sleep(0.5)
        refused = await home.push("ada", envelope(await account(home)))
        assert_problem(refused, 503, "too-many-webhooks")
        assert refused.headers["retry-after"] == "1"
        assert (await home.api.get("/api/bg/ada/latest")).status_code == 200
    assert (await home.push("ada", envelope(await account(home)))).status_code == 202


async def test_more_than_a_replica_takes_is_told_to_wait_and_unproven_ones_do_not_count() -> None:
    async with house(defaults=Defaults(backfill_days=0), webhook_limits=Limits(1, 3)) as home:
        await home.connect("ada")
        body = envelope(await account(home), records(HOUR_AGO, 1))
        for _ in range(10):
            assert (await home.push("ada", body, webhook_signature="v1,eA==")).status_code == 401
        for number in range(3):
            assert (await home.push("ada", body, f"msg_{number}")).status_code == 202
        refused = await home.push("ada", body, "msg_3")
        assert_problem(refused, 429, "too-many-requests")
        assert (await home.api.get("/api/bg/ada/latest")).status_code == 200
        await anyio.sleep(int(refused.headers["retry-after"]))
        assert (await home.push("ada", body, "msg_3")).status_code == 202


async def test_a_sender_that_goes_away_halfway_is_no_error_of_ours(home: House) -> None:
    body = envelope(await account(home))
    answered: list[int] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.disconnect"}

    async def told(event: MutableMapping[str, Any]) -> None:
        if event["type"] == "http.response.start":
            answered.append(int(str(event["status"])))

    headers = raw(signed(body, "msg_1", START))
    path = "/api/bg/ada/webhook"
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b""}
    transport = home.api._transport
    assert isinstance(transport, httpx.ASGITransport)
    await transport.app({**scope, "headers": headers, "http_version": "1.1", "scheme": "https"}, receive, told)
    assert answered == [400]


async def test_case_45_while_the_store_is_down_nothing_is_acknowledged() -> None:
    down = False
    async with house(around=lambda table: Faulty(table, lambda _: Fault.BEFORE if down else None)) as home:
        await home.connect("ada")
        body = envelope(await account(home), records(HOUR_AGO, 1))
        down = True
        answer = await home.push("ada", body)
        assert_problem(answer, 503, "store-unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        down = False
        assert (await home.push("ada", body)).json() == ZEROS | {"stored": 1}


async def test_the_schema_describes_it(home: House) -> None:
    described = (await home.api.get("/schema")).json()["paths"]["/api/bg/{user_id}/webhook"]["post"]
    assert {each["name"] for each in described["parameters"]} == {
        "user_id",
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
    }
    assert described["security"] == [{}]
    assert described["requestBody"]["content"]["application/json"]["examples"]
    assert {"202", "400", "401", "404", "413", "503"} <= described["responses"].keys()
