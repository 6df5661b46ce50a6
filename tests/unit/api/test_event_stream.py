"""Server-sent events of one user and of many, as their clients read them."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, cast

import anyio
import httpx
import pytest

from bg_ingest.api.auth import Access
from bg_ingest.api.fairness import ShortRequests
from bg_ingest.domain.access import Scope
from bg_ingest.domain.commits import plan_erasure
from bg_ingest.domain.ids import UserId
from bg_ingest.observability.http import RequestMetrics
from bg_ingest.services.queries.event_hub import MAX_STREAMS_PER_CREDENTIAL
from bg_ingest.store.changes import CHANGE_RETENTION
from tests.harness.api import ADA, ApiHarness, open_api, reading
from tests.harness.sse import NO_HEADERS, SseStream, open_stream

CHANGES = "/api/bg/ada/changes"
STREAMED = {"Accept": "text/event-stream"}
OPENED = 94


@pytest.fixture
async def live(api: ApiHarness) -> AsyncIterator[ApiHarness]:
    """Return the API with a running event hub."""
    async with anyio.create_task_group() as group:
        await group.start(api.services.event_hub)
        yield api
        group.cancel_scope.cancel()


async def add(api: ApiHarness, *numbers: int) -> None:
    """Commit readings one by one, as the service does."""
    for number in numbers:
        await api.add_readings(reading(number))
        head = await api.store.readings.head(ADA)
        assert head is not None
        api.services.observer.committed(await api.store.changes.read(ADA, head.last_change, head.last_change))


async def refuse(
    api: ApiHarness, path: str = CHANGES, headers: Mapping[str, str] = NO_HEADERS, body: Any = None
) -> tuple[int, str]:
    """Return the status and the problem's type of a refused stream."""
    async with open_stream(api.app, path, headers, body=body) as stream:
        await stream.ended.wait()
    return stream.status, json.loads(stream.body)["type"]


async def test_a_stream_starts_at_now_with_a_snapshot_and_continues_live(live: ApiHarness) -> None:
    await add(live, -5, -4)
    async with open_stream(live.app, CHANGES) as stream:
        (snapshot,) = await stream.wait(1)
        latest = (await live.http.get("/api/bg/ada/latest", params={"view": "full"})).json()
        assert snapshot[:3] == ("snapshot", "2", {"user_id": "ada", "change": 2, "latest": latest, "missed": None})
        await add(live, -3, -2)
        await stream.wait(3)
    assert [event.id for event in stream.named] == ["2", "3", "4"]
    assert {event.name for event in stream.changes} == {"bg.readings.recorded.v1"}
    assert (stream.status, stream.headers["content-type"].partition(";")[0]) == (200, "text/event-stream")
    assert (stream.headers["cache-control"], stream.headers["x-accel-buffering"]) == ("no-store", "no")
    assert 1_000 <= (stream.parser.retry or 0) <= 4_000


async def test_events_at_the_start_of_a_stream_do_not_end_it(live: ApiHarness) -> None:
    await add(live, -9)
    async with open_stream(live.app, CHANGES, query={"after": "0"}) as stream:
        for number in range(-8, -3):
            await stream.wait(1)
            await add(live, number)
        await stream.wait(1)
    assert stream.numbers == [1, 2, 3, 4, 5, 6]


async def test_events_equal_the_published_bytes(live: ApiHarness) -> None:
    await add(live, *range(-9, 0))
    page = (await live.http.get(CHANGES)).content
    async with open_stream(live.app, CHANGES, query={"after": "0"}) as stream:
        await stream.wait(9)
    assert stream.numbers == list(range(1, 10))
    assert page.startswith(b'{"user_id":"ada","events":[' + b",".join(event.raw for event in stream.named) + b"]")


@pytest.mark.parametrize(
    ("query", "headers", "first"),
    [
        ({"after": "2"}, {}, "3"),
        ({"after": "1"}, {"last-event-id": "3"}, "4"),
        ({}, {"last-event-id": "0"}, "1"),
        ({"after": "0"}, {}, "1"),
        ({"after": ""}, {}, "snapshot"),
        ({}, {"last-event-id": ""}, "snapshot"),
    ],
)
async def test_the_start_is_the_last_event_id_else_after_else_now(
    live: ApiHarness, query: dict[str, str], headers: dict[str, str], first: str
) -> None:
    await add(live, -5, -4, -3, -2)
    async with open_stream(live.app, CHANGES, headers, query=query) as stream:
        event = (await stream.wait(1))[0]
    assert first in {event.id, event.name}


@pytest.mark.parametrize("cursor", ["1", "5", "999999999999", "9999999999999", "ada/3", "²"])
async def test_a_cursor_that_is_not_kept_or_beyond_the_last_change_is_missed(live: ApiHarness, cursor: str) -> None:
    await add(live, -9, -8, -7)
    live.clock.advance(CHANGE_RETENTION)
    await add(live, -6)
    for query, header in (({"after": cursor}, {}), ({}, {"last-event-id": cursor})):
        if query and not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 12):
            continue
        async with open_stream(live.app, CHANGES, header, query=query) as stream:
            (snapshot,) = await stream.wait(1)
            assert (snapshot.name, snapshot.id) == ("snapshot", "4")
            assert snapshot.data["missed"] == [2 if cursor == "1" else 1, 4]


async def test_numbers_are_sent_exactly_once_across_reconnects(live: ApiHarness) -> None:
    await add(live, -50)
    received: list[int] = []
    last = "0"
    for round_number in range(10):
        async with open_stream(live.app, CHANGES, {"last-event-id": last}) as stream:
            await stream.wait(1)
            await add(live, -49 + 3 * round_number, -48 + 3 * round_number)
            await stream.wait(2)
        received += stream.numbers
        last = stream.named[-1].id or ""
        await add(live, -47 + 3 * round_number)
    assert received == list(range(1, received[-1] + 1))


async def test_heartbeats_are_comments_after_seconds_without_an_event(live: ApiHarness) -> None:
    await add(live, -3)
    async with open_stream(live.app, CHANGES, query={"after": "1"}) as stream:
        await anyio.sleep(9.5)
        assert [event.name for event in stream.events] == [":"] * 3
        assert stream.body.endswith(b"\n\n:\n\n:\n\n:\n\n")


async def test_heartbeats_of_several_streams_share_their_instants(live: ApiHarness) -> None:
    await add(live, -3)
    start = (anyio.current_time() // 0.25 + 1) * 0.25
    await anyio.sleep_until(start + 0.01)
    async with open_stream(live.app, CHANGES, query={"after": "1"}) as one:
        await anyio.sleep(0.1)
        async with open_stream(live.app, CHANGES, query={"after": "1"}) as other:
            await anyio.sleep_until(start + 2.99)
            assert one.events == other.events == []
            await anyio.sleep(0.02)
            assert [event.name for event in one.events + other.events] == [":", ":"]


async def test_an_unknown_user_a_bad_cursor_and_a_bad_form_are_problems(live: ApiHarness) -> None:
    await add(live, -3)
    assert await refuse(live, "/api/bg/zoe/changes") == (404, "unknown")
    async with open_stream(live.app, CHANGES, query={"after": "x"}) as stream:
        await stream.ended.wait()
    assert (stream.status, json.loads(stream.body)["type"]) == (400, "invalid-after")
    assert await refuse(live, headers={"accept": "text/csv"}) == (406, "not-acceptable")
    assert live.metrics.registry.get_sample_value("bg_ingest_streams") == 0


async def test_head_has_the_headers_of_get(live: ApiHarness) -> None:
    await add(live, -3)
    answer = await live.http.head(CHANGES, headers=STREAMED)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert live.metrics.registry.get_sample_value("bg_ingest_streams") == 0


async def test_an_erasure_ends_the_stream_with_its_reason(live: ApiHarness) -> None:
    await add(live, -3)
    async with open_stream(live.app, CHANGES) as stream, open_stream(live.app, CHANGES, query={"after": "1"}) as idle:
        await stream.wait(1)
        await live.services.eraser.erase(ADA)
        await stream.ended.wait()
        await idle.ended.wait()
    for ended in (stream, idle):
        assert ended.named[-1][:3] == ("end", None, {"reason": "erased"})
        assert ended.is_complete
    assert len(idle.named) == 1


async def test_a_drain_ends_every_stream_within_a_second_and_reconnects_are_spread(live: ApiHarness) -> None:
    await add(live, -3)
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(open_stream(live.app, CHANGES)) for _ in range(100)]
        for stream in streams:
            await stream.wait(1)
        live.services.event_hub.close()
        with anyio.fail_after(1):
            for stream in streams:
                await stream.ended.wait()
    assert all(stream.named[-1][:3] == ("end", None, {"reason": "restarting"}) for stream in streams)
    waits = [stream.parser.retry or 0 for stream in streams]
    assert max(waits) - min(waits) > 2_000


@pytest.mark.slow
async def test_a_reader_that_stops_for_15_seconds_misses_nothing_and_one_of_20_is_cut(live: ApiHarness) -> None:
    await add(live, -400)
    async with open_stream(live.app, CHANGES, query={"after": "0"}) as slow, open_stream(live.app, CHANGES) as dead:
        await slow.wait(1)
        await dead.wait(1)
        dead.pause()
        slow.pause()
        for number in range(-399, -199):
            await add(live, number)
            await anyio.sleep(0.07)
        slow.resume()
        await slow.wait(201)
        assert slow.numbers == list(range(1, 202))
        with anyio.fail_after(21):
            await dead.ended.wait()
        assert not dead.is_complete


async def test_the_101st_stream_of_a_credential_is_429() -> None:
    async with open_api(Access.CLOSED) as api, AsyncExitStack() as stack:
        await add(api, -3)
        key = await api.services.api_keys.create("one", [Scope.READINGS_READ])
        other = await api.services.api_keys.create("two", [Scope.READINGS_READ])
        await anyio.sleep(3)
        bearer = {"authorization": f"Bearer {key.text.reveal()}"}
        for _ in range(MAX_STREAMS_PER_CREDENTIAL):
            await stack.enter_async_context(open_stream(api.app, CHANGES, bearer))
        await anyio.sleep(1)
        assert await refuse(api, headers=bearer) == (429, "too-many-streams")
        stream = await stack.enter_async_context(
            open_stream(api.app, CHANGES, {"authorization": f"Bearer {other.text.reveal()}"})
        )
        await stream.wait(1)
        assert (await api.http.get("/api/bg/ada/latest", headers=bearer)).status_code == 200


async def test_a_revoked_key_ends_its_stream() -> None:
    async with open_api(Access.CLOSED) as api, anyio.create_task_group() as group:
        await group.start(api.services.event_hub)
        await add(api, -3)
        key = await api.services.api_keys.create("one", [Scope.READINGS_READ])
        await anyio.sleep(3)
        async with open_stream(api.app, CHANGES, {"authorization": f"Bearer {key.text.reveal()}"}) as stream:
            await stream.wait(1)
            await api.services.api_keys.revoke(key.key.id)
            with anyio.fail_after(31):
                await stream.ended.wait()
        assert stream.named[-1].data == {"reason": "credential_ended"}
        group.cancel_scope.cancel()


@pytest.mark.slow
async def test_open_streams_are_not_requests_in_progress(live: ApiHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other work would be deferred as long as one is in progress; the histogram of requests would show hours."""
    await add(live, -3)
    in_progress = 0
    begin, end = ShortRequests.begin, ShortRequests.end

    def count_begin(requests: ShortRequests) -> None:
        nonlocal in_progress
        in_progress += 1
        begin(requests)

    def count_end(requests: ShortRequests) -> None:
        nonlocal in_progress
        in_progress -= 1
        end(requests)

    monkeypatch.setattr(ShortRequests, "begin", count_begin)
    monkeypatch.setattr(ShortRequests, "end", count_end)
    app = RequestMetrics(live.app, live.metrics)
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(open_stream(app, CHANGES)) for _ in range(OPENED)]
        for stream in streams:
            await stream.wait(1)
        assert in_progress == 0
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app=cast("Any", app)), base_url="http://ingest.test")
        async with client, anyio.create_task_group() as group:
            passes = 0

            async def count() -> None:
                nonlocal passes
                while True:
                    passes += 1
                    await anyio.lowlevel.checkpoint()

            group.start_soon(count)
            assert (await client.get("/api/bg/ada/latest")).status_code == 200
            group.cancel_scope.cancel()
        assert passes < 40
        assert live.metrics.registry.get_sample_value("bg_ingest_streams") == OPENED
    text = live.metrics.text().decode()
    assert '/latest",status="200"' in text
    assert "changes" not in "".join(line for line in text.splitlines() if "http_request" in line)


async def test_opening_a_stream_is_audited(live: ApiHarness) -> None:
    await add(live, -3)
    async with (
        open_stream(live.app, CHANGES) as stream,
        open_stream(live.app, "/api/changes", body={"after": {"ada": None, "zoe": 1}}) as many,
    ):
        await stream.wait(1)
        await many.wait(1)
    await live.services.audit_log.flush()
    records = (await live.http.get("/api/audit", params={"user": "ada", "to": "2026-03-03"})).json()
    routes = {(record["action"], record["route"]) for record in records}
    assert routes >= {("read", "GET /api/bg/{user_id}/changes"), ("read", "POST /api/changes")}


async def many(api: ApiHarness, **after: int | None) -> SseStream:
    async with open_stream(api.app, "/api/changes", body={"after": after}) as stream:
        await anyio.sleep(1)
    return stream


async def test_a_vector_has_an_event_for_each_case_and_continues_live(live: ApiHarness) -> None:
    await add(live, -5, -4, -3)
    async with open_stream(live.app, "/api/changes", body={"after": {"ada": 1, "zoe": 7}}) as stream:
        await stream.wait(3)
        await add(live, -2)
        await stream.wait(4)
    assert [(event.name, event.id) for event in stream.named] == [
        ("unknown", None),
        *(("bg.readings.recorded.v1", f"ada/{number}") for number in (2, 3, 4)),
    ]
    assert stream.named[0].data == {"user_id": "zoe"}
    snapshot = (await many(live, ada=None)).named[0]
    assert (snapshot.name, snapshot.id, snapshot.data["missed"]) == ("snapshot", "ada/4", None)
    beyond = (await many(live, ada=9)).named[0]
    assert (beyond.name, beyond.data["missed"]) == ("snapshot", [1, 4])


async def test_a_vector_without_a_known_user_ends(live: ApiHarness) -> None:
    stream = await many(live, zoe=1)
    assert [event.data for event in stream.named] == [{"user_id": "zoe"}, {"reason": "erased"}]
    assert stream.is_complete


async def test_users_outside_the_credential_are_unknown_without_a_read() -> None:
    async with open_api(Access.CLOSED) as api:
        await add(api, -3)
        key = await api.services.api_keys.create("ben", [Scope.READINGS_READ], users=[UserId("ben")])
        await anyio.sleep(3)
        bearer = {"authorization": f"Bearer {key.text.reveal()}"}
        await api.http.get("/api/latest", params={"users": "ben"}, headers=bearer)
        assert await refuse(api, headers=bearer) == (404, "unknown")
        before = api.table.reads
        async with open_stream(api.app, "/api/changes", bearer, body={"after": {"ada": 0}}) as stream:
            await anyio.sleep(1)
        assert [event.data for event in stream.named] == [{"user_id": "ada"}, {"reason": "erased"}]
        assert api.table.reads == before


async def test_a_stream_has_at_most_500_users(live: ApiHarness) -> None:
    users = {f"user-{number}": None for number in range(501)}
    assert await refuse(live, "/api/changes", body={"after": users}) == (400, "invalid-body")


async def test_a_tombstone_is_unknown(live: ApiHarness) -> None:
    await add(live, -3)
    await live.store.erasures.begin(plan_erasure(ADA, await live.store.readings.head(ADA), [], live.clock.now()))
    assert await refuse(live) == (404, "unknown")


async def test_a_late_event_of_a_clock_behind_is_sent_all_the_same(live: ApiHarness) -> None:
    await add(live, -3)
    async with open_stream(live.app, CHANGES, query={"after": "1"}) as stream:
        await anyio.sleep(1)
        live.clock.advance(timedelta(hours=-1))
        await add(live, -2)
        await stream.wait(1)
    assert stream.numbers == [2]
