"""Floods of open routes and of long answers leave the short requests of others alone."""

from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import timedelta
from typing import Any, cast

import anyio
import anyio.abc
import anyio.lowlevel
import pytest
import structlog.testing

from bg_ingest.api.auth import Access
from bg_ingest.api.fairness import (
    CROWD,
    GRACE_SECONDS,
    MAX_DEFERRAL_SECONDS,
    MAX_LONG_ANSWERS,
    MIN_BYTES_PER_SECOND,
    ChunkSender,
    Pacer,
    ShortRequests,
)
from bg_ingest.domain.access import Scope
from tests.fakes.clock import NOON
from tests.harness.api import ApiHarness, open_api, reading
from tests.harness.ten_years import END, TenYearsOfReadings
from tests.unit.api.test_streaming import FakeConnection, use_readings
from tests.unit.api.test_validation import assert_problem

FLOOD = 60
YEAR = f"/api/bg/ada?from={END - timedelta(days=365):%Y-%m-%d}&to={END:%Y-%m-%d}"
OPEN_PATHS = (
    "/health/live",
    "/health/ready",
    "/metrics",
    "/schema",
    "/schema/openapi.json",
    "/schema/openapi.yaml",
    "/schema/openapi.yml",
    "/schema/page",
    "/schema/nothing",
)


async def test_s1_a_pass_of_the_event_loop_holds_one_paced_piece_of_work() -> None:
    pacer, events = Pacer(ShortRequests()), list[str]()

    async def work() -> None:
        await pacer.wait()
        events.append("work")

    async with anyio.create_task_group() as group:
        for _ in range(FLOOD):
            group.start_soon(work)
        while events.count("work") < FLOOD:
            events.append("pass")
            await anyio.lowlevel.checkpoint()
    assert "work,work" not in ",".join(events)


async def test_s1_a_crowd_of_waiters_is_admitted_at_intervals_and_a_few_at_once() -> None:
    pacer, began = Pacer(ShortRequests(), interval=0.05), anyio.current_time()
    for count, least, most in ((1, 0, 0.04), (CROWD, 0, 0.04), (CROWD + 4, 0.15, 0.25)):
        async with anyio.create_task_group() as group:
            for _ in range(count):
                group.start_soon(pacer.wait)
        assert least <= anyio.current_time() - began < most


async def test_s4_a_paced_piece_of_work_waits_for_short_requests_in_progress_but_not_for_long() -> None:
    short_requests = ShortRequests()
    pacer = Pacer(short_requests)
    short_requests.begin()
    began = anyio.current_time()
    await pacer.wait()
    assert MAX_DEFERRAL_SECONDS <= anyio.current_time() - began < 5 * MAX_DEFERRAL_SECONDS
    async with anyio.create_task_group() as group:
        group.start_soon(pacer.wait)
        await anyio.wait_all_tasks_blocked()
        began = anyio.current_time()
        short_requests.end()
    assert anyio.current_time() - began < MAX_DEFERRAL_SECONDS


@pytest.mark.parametrize(("route", "pauses"), [("completeness", 20), ("statistics", 80)])
async def test_s4_computations_over_many_days_pause_for_short_requests(
    api: ApiHarness, monkeypatch: pytest.MonkeyPatch, route: str, pauses: int
) -> None:
    await api.add_readings(*(reading(-72 * number) for number in range(80)))
    wait, paused = Pacer.wait, 0

    async def count_and_wait(pacer: Pacer) -> None:
        nonlocal paused
        paused += 1
        await wait(pacer)

    monkeypatch.setattr(Pacer, "wait", count_and_wait)
    start = NOON - timedelta(days=30)
    assert (await api.http.get(f"/api/bg/ada/{route}?from={start:%Y-%m-%d}")).status_code == 200
    assert paused >= pauses


async def count_meanwhile(flood: Callable[[], Awaitable[object]], ask: Callable[[], Awaitable[object]]) -> int:
    """Return the number of flooding requests that are answered during another request."""
    answered, all_began = 0, anyio.Event()

    async def repeat() -> None:
        nonlocal answered
        while True:
            await flood()
            answered += 1
            if answered == FLOOD:
                all_began.set()

    async with anyio.create_task_group() as group:
        for _ in range(FLOOD):
            group.start_soon(repeat)
        await all_began.wait()
        before = answered
        await ask()
        meanwhile = answered - before
        group.cancel_scope.cancel()
    return meanwhile


@pytest.mark.parametrize("path", ["/schema/openapi.yaml", "/health/ready"])
async def test_s1_a_flood_of_open_routes_is_answered_one_by_one_beside_others(api: ApiHarness, path: str) -> None:
    await api.add_readings(reading(-1))
    meanwhile = await count_meanwhile(lambda: api.http.get(path), lambda: api.http.get("/api/bg/ada/latest"))
    assert meanwhile < FLOOD / 4


@pytest.mark.slow
async def test_s1_proven_credentials_overtake_a_flood_of_anonymous_and_wrong_ones() -> None:
    async with open_api(Access.CLOSED) as api:
        await api.add_readings(reading(-1))
        made = await api.services.api_keys.create("dashboard", [Scope.READINGS_READ])
        await anyio.sleep(2)  # by then an unknown id is looked up again
        headers = {"Authorization": f"Bearer {made.text.reveal()}"}
        for wrong in ({}, {"Authorization": "Bearer bgi_first_" + "s" * 43}):

            async def flood(wrong: dict[str, str] = wrong) -> None:
                assert (await api.http.get("/api/bg/ada/latest", headers=wrong)).status_code == 401

            async def ask() -> None:
                assert (await api.http.get("/api/bg/ada/latest", headers=headers)).status_code == 200

            await ask()
            assert await count_meanwhile(flood, ask) < FLOOD / 4


async def test_s1_open_routes_cost_what_liveness_costs(api: ApiHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the store, and without rendering anything again."""
    for path in OPEN_PATHS:
        await api.http.get(path)
    rendered: list[object] = []
    monkeypatch.setattr("bg_ingest.api.openapi.render_reference", rendered.append)
    contents = Counter([(path, (await api.http.get(path)).content) for path in OPEN_PATHS[3:-1] for _ in range(3)])
    assert set(contents.values()) == {3}
    assert rendered == []
    assert api.table.asked == (0, 0, 0)


@pytest.fixture
async def years(api: ApiHarness) -> ApiHarness:
    await api.add_readings(reading(-1))
    use_readings(api, TenYearsOfReadings())
    return api


class StalledConnection(FakeConnection):
    """A client that reads the beginning of its answer and then nothing more."""

    def __init__(self) -> None:
        super().__init__()
        self.stalled = anyio.Event()

    async def send(self, event: MutableMapping[str, Any]) -> None:
        self.events.append(event)
        if len(self.events) == 3:
            self.stalled.set()
            await anyio.sleep_forever()


async def stall(api: ApiHarness, count: int, group: anyio.abc.TaskGroup) -> None:
    readers = [StalledConnection() for _ in range(count)]
    for reader in readers:
        group.start_soon(reader.ask, api)
    for reader in readers:
        await reader.stalled.wait()


@pytest.mark.slow
async def test_s4_a_few_long_answers_of_a_credential_are_open_at_once_and_no_more(years: ApiHarness) -> None:
    async with anyio.create_task_group() as group:
        await stall(years, MAX_LONG_ANSWERS, group)
        routes = ("gaps", "completeness", "statistics", "statistics/daily", "profile", "series")
        for path in (YEAR, f"{YEAR}&view=full", *(YEAR.replace("ada?", f"ada/{route}?") for route in routes)):
            refused = await years.http.get(path)
            assert_problem(refused, 429, "too-many-requests")
            assert int(refused.headers["retry-after"]) > 0
        assert (await years.http.get("/health/live")).status_code == 200
        group.cancel_scope.cancel()
    assert (await years.http.get(YEAR)).status_code == 200


async def test_s4_a_further_answer_waits_for_the_end_of_another(years: ApiHarness) -> None:
    statuses = Counter[int]()

    async def ask() -> None:
        statuses[(await years.http.get("/api/bg/ada?from=2025-12-01&to=2026-01-01")).status_code] += 1

    async with anyio.create_task_group() as group:
        for _ in range(MAX_LONG_ANSWERS + 2):
            group.start_soon(ask)
    assert statuses == {200: MAX_LONG_ANSWERS + 2}


async def read_at(bytes_per_second: float, chunks: int) -> float:
    """Send chunks to a reader of this rate; return the bytes that it took."""
    taken = 0

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal taken
        await anyio.sleep(len(message["body"]) / bytes_per_second)
        taken += len(message["body"])

    reader = ChunkSender(cast("Any", send))
    for _ in range(chunks):
        await reader.send_chunk(bytes(65_536))
    return taken


async def test_s4_a_reader_below_the_least_rate_is_ended_and_a_faster_one_is_not() -> None:
    assert await read_at(MIN_BYTES_PER_SECOND * 1.1, 1_000) == 65_536_000
    with pytest.raises(TimeoutError):
        await read_at(MIN_BYTES_PER_SECOND * 0.4, 20)
    with anyio.fail_after(GRACE_SECONDS + 1), pytest.raises(TimeoutError):
        await read_at(1, 1)


async def test_s4_a_slow_reader_of_years_is_cut_and_its_answer_ended(years: ApiHarness) -> None:
    line, send = FakeConnection(), FakeConnection.send

    async def send_slowly(event: MutableMapping[str, Any]) -> None:
        await anyio.sleep(5)
        await send(line, event)

    line.send = send_slowly  # type: ignore[method-assign]
    with structlog.testing.capture_logs() as logs, pytest.raises(Exception, match="after response started"):
        await line.ask(years)
    assert [(entry["event"], entry["error"]) for entry in logs] == [("answer_cut", "TimeoutError")]
    assert 2 < len(line.events) < 20
    assert line.events[-1]["more_body"]


async def test_s4_short_requests_run_between_the_pieces_of_long_answers(years: ApiHarness) -> None:
    pieces, all_began = 0, anyio.Event()

    class Line(FakeConnection):
        async def send(self, event: MutableMapping[str, Any]) -> None:
            nonlocal pieces
            pieces += 1
            if pieces == 5 * MAX_LONG_ANSWERS:
                all_began.set()
            if len(self.events) < 3:
                await super().send(event)

    async with anyio.create_task_group() as group:
        for _ in range(MAX_LONG_ANSWERS):
            group.start_soon(Line().ask, years)
        await all_began.wait()
        while pieces < 8 * MAX_LONG_ANSWERS:
            before = pieces
            await anyio.lowlevel.checkpoint()
            assert pieces - before <= 1, "pieces in one pass"
        before = pieces
        assert (await years.http.get("/health/live")).status_code == 200
        assert pieces - before < 20
        group.cancel_scope.cancel()


@pytest.mark.slow
@pytest.mark.parametrize("path", [YEAR, "/api/bg/ada/gaps", "/api/bg/ada/statistics", "/api/users/ada/export"])
async def test_s4_short_requests_do_not_queue_behind_the_beginnings_of_long_answers(
    years: ApiHarness, path: str
) -> None:
    meanwhile = await count_meanwhile(lambda: years.http.head(path), lambda: years.http.get("/health/live"))
    assert meanwhile < FLOOD / 2
    meanwhile = await count_meanwhile(lambda: years.http.head(path), lambda: years.http.get("/api/users/ada/nothing"))
    assert meanwhile < FLOOD / 4
    poll = "/api/users/ada/connections/acme/poll"
    meanwhile = await count_meanwhile(lambda: years.http.head(path), lambda: years.http.post(poll))
    assert meanwhile < FLOOD / 4


@pytest.mark.parametrize("route", ["gaps", "completeness"])
async def test_s4_an_answer_that_is_not_streamed_has_a_bounded_window(api: ApiHarness, route: str) -> None:
    await api.add_readings(reading(-1))
    path = f"/api/bg/ada/{route}"
    assert_problem(await api.http.get(f"{path}?from=1970-01-01&to=2970-01-01"), 400, "invalid-range")
    assert_problem(await api.http.get(f"{path}?from=2010-01-01&to=2020-02-01"), 400, "invalid-range")
    assert (await api.http.get(f"{path}?from=2016-03-03")).status_code == 200
