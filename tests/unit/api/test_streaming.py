"""Years are answered in bounded memory, and an answer that breaks is seen to be broken."""

import json
import subprocess
import sys
from collections.abc import AsyncGenerator, MutableMapping
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest
import structlog.testing

from bg_ingest.errors import StoreUnavailable
from bg_ingest.services.queries.readings import ReadingQueries
from bg_ingest.store.segments import ReadingStore
from tests.harness.api import ApiHarness, reading
from tests.harness.ten_years import DAYS, END, TenYearsOfReadings

FORMATS = ("application/json", "text/csv", "application/x-ndjson")


class BreakingReadings(TenYearsOfReadings):
    """Breaks after this many segments, and records its close."""

    def __init__(self, after: int | None) -> None:
        super().__init__()
        self.after = after
        self.closed = False
        self.given = 0

    async def iter_packed(self, *asked: Any, **how: Any) -> AsyncGenerator[bytes]:
        try:
            async with aclosing(super().iter_packed(*asked, **how)) as segments:
                async for each in segments:
                    if self.given == self.after:
                        raise StoreUnavailable
                    self.given += 1
                    yield each
        finally:
            self.closed = True


class FakeConnection:
    """One connection: the bytes sent on it, and a reader that may disconnect."""

    def __init__(self, gone_after: int | None = None, accept: str = "*/*") -> None:
        self._accept = accept
        self.events: list[MutableMapping[str, Any]] = []
        self._gone_after = gone_after
        self._gone = anyio.Event()
        self._body: bytes | None = None

    async def send(self, event: MutableMapping[str, Any]) -> None:
        self.events.append(event)
        if len(self.events) == self._gone_after:
            self._gone.set()
            await anyio.sleep_forever()

    async def receive(self) -> dict[str, Any]:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def ask(self, api: ApiHarness) -> None:
        query = f"from={END - timedelta(days=365):%Y-%m-%d}&to={END:%Y-%m-%d}".encode()
        await self._request(api, "GET", "/api/bg/ada", query)

    async def post(self, api: ApiHarness, path: str, body: Any) -> None:
        self._body = json.dumps(body).encode()
        await self._request(api, "POST", path, b"")

    async def _request(self, api: ApiHarness, method: str, path: str, query: bytes) -> None:
        scope: Any = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query,
            "headers": [
                (b"host", b"ingest.test"),
                (b"accept", self._accept.encode()),
                (b"content-type", b"application/json"),
            ],
        }
        await api.app(scope, cast("Any", self.receive), cast("Any", self.send))


def use_readings(api: ApiHarness, readings: TenYearsOfReadings) -> None:
    api.replace_services(reader=ReadingQueries(cast("ReadingStore", readings), api.clock))


def test_ten_years_in_each_format_grow_the_process_by_less_than_30_mb() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.harness.ten_years", "5", *FORMATS],
        cwd=Path(__file__).parents[3],
        check=True,
        capture_output=True,
        timeout=120,
    )
    figures = json.loads(done.stdout)
    for accept in FORMATS:
        pieces, size, count, _ = figures["asked"][accept]
        assert count == DAYS * 288
        assert size > 25 * count
        assert size / pieces > 60_000, "small pieces cost a send each"
    _, _, known_then, _ = figures["asked"]["as_of"]
    assert known_then == DAYS // 5 * 144
    assert figures["grown"] < 30_000_000


async def test_the_store_failing_at_first_is_a_503_that_says_when_to_come_again(api: ApiHarness) -> None:
    use_readings(api, BreakingReadings(after=0))
    answer = await api.http.get("/api/bg/ada?from=2025-01-01")
    assert (answer.status_code, answer.json()["type"]) == (503, "store-unavailable")
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize(("after", "accept"), [(20, FORMATS[0]), *((600, accept) for accept in FORMATS)])
async def test_the_store_failing_on_the_way_leaves_the_answer_without_its_end(
    api: ApiHarness, after: int, accept: str
) -> None:
    use_readings(api, broken := BreakingReadings(after))
    line = FakeConnection(accept=accept)
    with structlog.testing.capture_logs() as logs, pytest.raises(Exception, match="after response started"):
        await line.ask(api)
    assert [(each["event"], each["error"]) for each in logs] == [("answer_cut", "StoreUnavailable")]
    assert line.events[0]["status"] == 200
    assert all(event["more_body"] for event in line.events[1:])
    assert broken.closed


async def test_a_reader_that_goes_away_ends_the_reading(api: ApiHarness) -> None:
    use_readings(api, endless := BreakingReadings(after=None))
    line = FakeConnection(gone_after=3)
    await line.ask(api)
    assert len(line.events) == 3
    assert endless.given < 100
    assert endless.closed


async def test_others_are_answered_while_years_are_read(api: ApiHarness) -> None:
    use_readings(api, TenYearsOfReadings())
    line = FakeConnection()
    async with anyio.create_task_group() as group:
        group.start_soon(line.ask, api)
        while not line.events:
            await anyio.lowlevel.checkpoint()
        assert (await api.http.get("/health/live")).status_code == 200
        assert line.events[-1].get("more_body", True), "the answer began only after the last year was read"


async def test_an_answer_of_one_chunk_is_sent_whole_with_its_length(api: ApiHarness) -> None:
    await api.add_readings(*(reading(-number) for number in range(1, 20)))
    answer = await api.http.get("/api/bg/ada?from=2026-03-01")
    assert len(answer.json()) == 19
    assert answer.headers["content-length"] == str(len(answer.content))
    head = await api.http.head("/api/bg/ada?from=2026-03-01")
    assert head.headers["content-length"] == answer.headers["content-length"]
    use_readings(api, TenYearsOfReadings())
    assert "content-length" not in (await api.http.get("/api/bg/ada?from=2026-01-01")).headers
