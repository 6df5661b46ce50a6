"""POST webhook from the sender's side: accepted senders, and answers. Made-up ones are in ``tests/fuzz``."""

import gzip
from collections.abc import AsyncIterator, MutableMapping
from datetime import timedelta
from typing import Any

import anyio
import httpx
import pytest

from bg_ingest.api.auth import Access, Limits
from bg_ingest.domain.connections import PollDefaults
from tests.fakes.faults import Fault, FaultyCalls
from tests.harness.service import PROVIDER, START, ServiceHarness, open_service
from tests.harness.webhook_sender import OTHER_SECRET, SECRET, envelope, raw, record, records, signature, signed

HOUR_AGO = START - timedelta(hours=1)
MAX_BODY_BYTES = 1_048_576
ZEROS = {"stored": 0, "duplicates": 0, "revised": 0, "quarantined": 0}


@pytest.fixture
async def service() -> AsyncIterator[ServiceHarness]:
    """Ada is connected; no actors run."""
    async with open_service(defaults=PollDefaults(backfill_days=0)) as service:
        await service.connect("ada")
        yield service


async def account(service: ServiceHarness, user: str = "ada") -> str:
    return (await service.connection(user)).provider_account or ""


def assert_problem(answer: httpx.Response, status: int, slug: str) -> None:
    assert (answer.status_code, answer.json()["type"]) == (status, slug), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.json()["detail"]) > 30, "the detail says what to do"


async def test_what_was_pushed_is_served_right_after_the_answer(service: ServiceHarness) -> None:
    answer = await service.push("ada", envelope(await account(service), records(HOUR_AGO, 2)))
    assert answer.status_code == 202
    assert answer.content == b'{"stored":2,"duplicates":0,"revised":0,"quarantined":0}'
    latest = await service.api.get("/api/bg/ada/latest")
    assert latest.json() == {"timestamp": "2026-03-02T11:05:00Z", "glucose_mg_dl": 111}


async def test_it_is_open_to_senders_where_the_api_is_closed() -> None:
    async with open_service(access=Access.CLOSED) as service:
        assert_problem(await service.push("ada", envelope("x")), 404, "unknown")
        assert_problem(await service.push("ada", envelope("x"), webhook_signature="v1,x"), 401, "invalid-signature")


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
async def test_case_45_headers_that_are_not_right_are_401(service: ServiceHarness, changed: dict[str, Any]) -> None:
    assert_problem(await service.push("ada", envelope(await account(service)), **changed), 401, "invalid-signature")
    assert await service.stored_readings("ada") == []


@pytest.mark.parametrize("missing", ["webhook-id", "webhook-timestamp", "webhook-signature"])
async def test_case_45_a_missing_header_is_401(service: ServiceHarness, missing: str) -> None:
    body = envelope(await account(service))
    headers = {name: value for name, value in signed(body, "msg_1", START).items() if name != missing}
    answer = await service.api.post("/api/bg/ada/webhook", content=body, headers=raw(headers))
    assert_problem(answer, 401, "invalid-signature")


@pytest.mark.parametrize(
    ("secrets", "status"),
    [([SECRET], 202), ([OTHER_SECRET, SECRET], 202), ([OTHER_SECRET], 401), ([], 401)],
)
async def test_case_45_a_secret_of_ours_must_have_signed(secrets: list[str], status: int) -> None:
    async with open_service(signing_secrets=secrets) as service:
        await service.connect("ada")
        assert (await service.push("ada", envelope(await account(service)))).status_code == status


@pytest.mark.parametrize(("seconds", "status"), [(-301, 401), (-300, 202), (300, 202), (301, 401)])
async def test_case_45_five_minutes_are_tolerated_either_way(
    service: ServiceHarness, seconds: int, status: int
) -> None:
    body = envelope(await account(service), records(HOUR_AGO, 1))
    headers = signed(body, "msg_1", service.clock.now() + timedelta(seconds=seconds))
    answer = await service.api.post("/api/bg/ada/webhook", content=body, headers=raw(headers))
    assert answer.status_code == status
    assert len(await service.stored_readings("ada")) == (status == 202)
    if status == 401:
        assert_problem(answer, 401, "stale-signature")


@pytest.mark.parametrize(
    "content_type",
    ["application/json; charset=utf-8", "text/plain", "application/x-www-form-urlencoded", "nonsense", None],
)
async def test_case_45_no_content_type_is_wrong_the_signed_bytes_say_what_they_are(
    service: ServiceHarness, content_type: str | None
) -> None:
    body = envelope(await account(service), records(HOUR_AGO, 1))
    headers = signed(body, "msg_1", service.clock.now()) | ({"content-type": content_type} if content_type else {})
    answer = await service.api.post("/api/bg/ada/webhook", content=body, headers=raw(headers))
    assert (answer.status_code, answer.json()["stored"]) == (202, 1)


async def test_case_45_a_forged_body_is_not_stored(service: ServiceHarness) -> None:
    genuine = envelope(await account(service), [record(HOUR_AGO, 110)])
    forged = genuine.replace(b"110", b"300")
    right = signature(genuine, "msg_1", str(int(START.timestamp())))
    assert_problem(await service.push("ada", forged, webhook_signature=right), 401, "invalid-signature")
    assert await service.stored_readings("ada") == []


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
async def test_case_45_what_is_no_envelope_is_400_if_signed_and_401_if_not(
    service: ServiceHarness, body: bytes
) -> None:
    assert_problem(await service.push("ada", body), 400, "invalid-body")
    assert_problem(await service.push("ada", body, webhook_signature="v1,eA=="), 401, "invalid-signature")


async def test_bytes_that_are_no_text_inside_a_record_cost_only_that_record(service: ServiceHarness) -> None:
    body = envelope(await account(service), [record(HOUR_AGO), record(START, displayDevice="#")]).replace(b"#", b"\xff")
    assert (await service.push("ada", body)).json() == ZEROS | {"stored": 1, "quarantined": 1}


async def test_who_has_not_signed_learns_nothing_of_the_path(service: ServiceHarness) -> None:
    for path in ("/api/bg/a%0A/webhook", "/api/bg/ada/webhook?x=1", "/api/bg/nobody/webhook"):
        answer = await service.api.post(path, content=b"{}")
        assert_problem(answer, 401, "invalid-signature")


@pytest.mark.parametrize(
    ("path", "slug"),
    [("/api/bg/a%0A/webhook", "invalid-user-id"), ("/api/bg/ada/webhook?user=eve", "unknown-parameter")],
)
async def test_a_path_that_cannot_be_meant_is_400(service: ServiceHarness, path: str, slug: str) -> None:
    headers = raw(signed(b"{}", "msg_1", START))
    assert_problem(await service.api.post(path, content=b"{}", headers=headers), 400, slug)


async def test_case_45_unknown_disconnected_and_other_persons_are_the_same_404(service: ServiceHarness) -> None:
    await service.connect("bob", "SandboxUser2")
    body = envelope(await account(service), records(HOUR_AGO, 1))
    answers = [await service.push(user, body) for user in ("nobody", "bob")]
    await service.api.delete(f"/api/users/ada/connections/{PROVIDER}")
    answers.append(await service.push("ada", body))
    for answer in answers:
        assert_problem(answer, 404, "unknown")
    assert len({answer.content for answer in answers}) == 1
    assert await service.stored_readings("ada") == await service.stored_readings("bob") == []


async def test_case_45_one_mebibyte_is_taken_and_a_byte_more_is_not(service: ServiceHarness) -> None:
    body = envelope(await account(service), records(HOUR_AGO, 1))
    assert (await service.push("ada", body.ljust(MAX_BODY_BYTES))).json()["stored"] == 1
    assert_problem(await service.push("ada", body.ljust(MAX_BODY_BYTES + 1), "msg_2"), 413, "too-large")


async def test_what_says_it_is_larger_is_refused_unread_signed_or_not(service: ServiceHarness) -> None:
    headers = {"content-length": str(MAX_BODY_BYTES + 1)}
    answer = await service.api.post("/api/bg/ada/webhook", content=b"", headers=headers)
    assert_problem(answer, 413, "too-large")


class SlowBody(httpx.AsyncByteStream):
    """Body without a length that continues until the service stops reading."""

    def __init__(self, piece: bytes, pause: float = 0) -> None:
        self.piece, self.pause = piece, pause
        self.sent = 0

    def __aiter__(self) -> "SlowBody":
        return self

    async def __anext__(self) -> bytes:
        await anyio.sleep(self.pause)
        self.sent += len(self.piece)
        return self.piece


async def send(service: ServiceHarness, body: SlowBody) -> httpx.Response:
    headers = raw({**signed(b"", "msg_1", service.clock.now()), "host": "ingest.test"})
    return await service.api.send(
        httpx.Request("POST", "https://ingest.test/api/bg/ada/webhook", headers=headers, stream=body)
    )


async def test_no_more_than_the_limit_is_read_of_a_body_without_end(service: ServiceHarness) -> None:
    body = SlowBody(b" " * 1_000)
    assert_problem(await send(service, body), 413, "too-large")
    assert body.sent <= MAX_BODY_BYTES + 1_000


async def test_nothing_is_read_of_a_body_whose_headers_cannot_be_right(service: ServiceHarness) -> None:
    body = SlowBody(b" " * 1_000)
    request = httpx.Request("POST", "https://ingest.test/api/bg/ada/webhook", stream=body)
    assert_problem(await service.api.send(request), 401, "invalid-signature")
    assert body.sent <= 1_000


async def test_a_body_that_does_not_come_is_given_up(service: ServiceHarness) -> None:
    before = service.clock.now()
    assert_problem(await send(service, SlowBody(b" ", pause=1)), 408, "too-slow")
    assert service.clock.now() - before <= timedelta(seconds=11)


async def test_case_47_a_flood_is_answered_with_a_wait_and_leaves_reads_alone(service: ServiceHarness) -> None:
    await service.push("ada", envelope(await account(service), records(HOUR_AGO, 1)))
    answers: list[httpx.Response] = []

    async def send_slowly() -> None:
        answers.append(await send(service, SlowBody(b" ", pause=1)))

    async with anyio.create_task_group() as group:
        for _ in range(64):
            group.start_soon(send_slowly)
        await anyio.sleep(0.5)
        assert answers, "the slowest make room for others"
        for refused in answers:
            assert_problem(refused, 503, "too-many-webhooks")
            assert refused.headers["retry-after"] == "1"
        assert (await service.api.get("/api/bg/ada/latest")).status_code == 200
    assert (await service.push("ada", envelope(await account(service)))).status_code == 202


async def test_more_than_a_replica_takes_is_answered_with_a_wait_and_unproven_ones_do_not_count() -> None:
    async with open_service(defaults=PollDefaults(backfill_days=0), webhook_limits=Limits(1, 3)) as service:
        await service.connect("ada")
        body = envelope(await account(service), records(HOUR_AGO, 1))
        for _ in range(10):
            assert (await service.push("ada", body, webhook_signature="v1,eA==")).status_code == 401
        for number in range(3):
            assert (await service.push("ada", body, f"msg_{number}")).status_code == 202
        refused = await service.push("ada", body, "msg_3")
        assert_problem(refused, 429, "too-many-requests")
        assert (await service.api.get("/api/bg/ada/latest")).status_code == 200
        await anyio.sleep(int(refused.headers["retry-after"]))
        assert (await service.push("ada", body, "msg_3")).status_code == 202


async def test_s1_above_the_limit_a_webhook_is_refused_before_its_body_is_read() -> None:
    async with open_service(defaults=PollDefaults(backfill_days=0), webhook_limits=Limits(1, 1)) as service:
        await service.connect("ada")
        body = envelope(await account(service), records(HOUR_AGO, 1))
        assert (await service.push("ada", body)).status_code == 202
        unread = SlowBody(b" " * 1_000)
        assert_problem(await send(service, unread), 429, "too-many-requests")
        assert unread.sent <= 1_000


async def test_a_sender_that_goes_away_halfway_is_no_error_of_ours(service: ServiceHarness) -> None:
    body = envelope(await account(service))
    answered: list[int] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.disconnect"}

    async def send_event(event: MutableMapping[str, Any]) -> None:
        if event["type"] == "http.response.start":
            answered.append(int(str(event["status"])))

    headers = raw(signed(body, "msg_1", START))
    path = "/api/bg/ada/webhook"
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b""}
    transport = service.api._transport
    assert isinstance(transport, httpx.ASGITransport)
    await transport.app({**scope, "headers": headers, "http_version": "1.1", "scheme": "https"}, receive, send_event)
    assert answered == [400]


async def test_case_45_while_the_store_is_down_nothing_is_acknowledged() -> None:
    down = False
    async with open_service(
        around=lambda table: FaultyCalls(table, lambda _: Fault.BEFORE if down else None)
    ) as service:
        await service.connect("ada")
        body = envelope(await account(service), records(HOUR_AGO, 1))
        down = True
        answer = await service.push("ada", body)
        assert_problem(answer, 503, "store-unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        down = False
        assert (await service.push("ada", body)).json() == ZEROS | {"stored": 1}


async def test_the_schema_describes_it(service: ServiceHarness) -> None:
    described = (await service.api.get("/schema")).json()["paths"]["/api/bg/{user_id}/webhook"]["post"]
    assert {each["name"] for each in described["parameters"]} == {
        "user_id",
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
    }
    assert described["security"] == [{}]
    assert described["requestBody"]["content"]["application/json"]["examples"]
    assert {"202", "400", "401", "404", "413", "503"} <= described["responses"].keys()


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP", "identity"])
async def test_f29_a_packed_page_is_stored(service: ServiceHarness, encoding: str) -> None:
    page = envelope(await account(service), records(HOUR_AGO, 2))
    body = page if encoding == "identity" else gzip.compress(page)
    answer = await service.push("ada", body, content_encoding=encoding)
    assert (answer.status_code, answer.json()["stored"]) == (202, 2)


@pytest.mark.parametrize(
    ("body", "encoding", "status", "slug"),
    [
        (gzip.compress(bytes(MAX_BODY_BYTES + 1), mtime=0), "gzip", 413, "too-large"),
        (gzip.compress(bytes(50_000_000), 1, mtime=0), "gzip", 413, "too-large"),
        (gzip.compress(bytes(MAX_BODY_BYTES), mtime=0), "gzip", 400, "invalid-body"),
        (b"{}", "gzip", 400, "invalid-body"),
        (gzip.compress(b"{}", mtime=0)[:-3], "gzip", 400, "invalid-body"),
        (b"{}", "br", 415, "unsupported-media-type"),
        (b"{}", "gzip, gzip", 415, "unsupported-media-type"),
    ],
    ids=["a byte too long", "a bomb", "zeros", "not packed", "cut", "br", "twice"],
)
async def test_f29_a_packed_body_has_the_same_limit(
    service: ServiceHarness, body: bytes, encoding: str, status: int, slug: str
) -> None:
    assert_problem(await service.push("ada", body, content_encoding=encoding), status, slug)


@pytest.mark.parametrize("mixed", [False, True])
async def test_f29_the_headers_of_svix_are_aliases_unless_mixed(service: ServiceHarness, *, mixed: bool) -> None:
    page = envelope(await account(service), records(HOUR_AGO, 2))
    own = signed(page, "msg_1", service.clock.now())
    headers = {name.replace("webhook-", "svix-"): value for name, value in own.items()}
    if mixed:
        headers["webhook-id"] = headers.pop("svix-id")
    answer = await service.api.post("/api/bg/ada/webhook", content=page, headers=raw(headers))
    assert answer.status_code == (401 if mixed else 202)
