"""Every recipe of docs/consumers.md works as written, on the API of a service with two users."""

import re
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx
import msgspec
import pytest
import uvicorn

from bg_ingest.domain.ids import UserId
from bg_ingest.domain.readings import Flag
from tests.docs.source import ROOT
from tests.harness.api import ADA, ApiHarness, open_api, reading

PAGE = (ROOT / "docs" / "consumers.md").read_text("utf-8")
RECIPES = dict(re.findall(r"^## (.+?)\n.*?^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))


@pytest.fixture
def anyio_backend() -> str:
    """Real time: recipes run in a thread."""
    return "asyncio"


@pytest.fixture
async def api() -> AsyncIterator[ApiHarness]:
    async with open_api() as opened:
        await opened.add_readings(*(reading(-number, 90 + number % 50) for number in range(20, 900)))
        await opened.add_readings(reading(-30, 200), reading(-31, 201))
        low = msgspec.structs.replace(reading(-40), glucose_mg_dl=39, flag=Flag.LOW)
        await opened.add_readings(low, reading(-41), user=UserId("ben"))
        opened.clock.advance(reading(24).measured_at - opened.clock.now())
        yield opened


@pytest.fixture
async def served(api: ApiHarness) -> AsyncIterator[int]:
    """Serve the application at a port of this machine, with live streams."""
    server = uvicorn.Server(uvicorn.Config(api.app, lifespan="off", ws="none", log_config=None))
    listening = socket.create_server(("127.0.0.1", 0))
    async with anyio.create_task_group() as group, anyio.create_task_group() as hub:
        await hub.start(api.services.event_hub)
        group.start_soon(server.serve, [listening])
        yield listening.getsockname()[1]
        server.should_exit = True
        hub.cancel_scope.cancel()


class Cut(httpx.SyncByteStream):
    """Stream of an answer that is cut after some chunks."""

    def __init__(self, stream: Any, chunks: int) -> None:
        self._stream, self._chunks = stream, chunks

    def __iter__(self) -> Iterator[bytes]:
        yield from islice(self._stream, self._chunks)
        raise httpx.ReadError("the connection is cut")

    def close(self) -> None:
        self._stream.close()


class ToServer(httpx.HTTPTransport):
    """Sends the requests of a recipe to the port of the test, and cuts the first stream after four chunks."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port, self._is_cut = port, False

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_with(host="127.0.0.1", port=self._port)
        answer = super().handle_request(request)
        if answer.headers["content-type"].startswith("text/event-stream") and not self._is_cut:
            self._is_cut, answer.stream = True, Cut(answer.stream, 4)
        return answer


async def wait_for_length(printed: list[Any], length: int) -> None:
    with anyio.fail_after(60):
        while len(printed) < length:  # noqa: ASYNC110 - a recipe has no event to wait for
            await anyio.sleep(0.005)


async def change(api: ApiHarness, printed: list[Any]) -> None:
    """Commit readings, each after the recipe printed the one before, and then erase the user."""
    for number in range(-6, 0):
        await wait_for_length(printed, number + 7)
        await api.add_readings(reading(number))
        head = await api.store.readings.head(ADA)
        assert head is not None
        api.services.observer.committed(await api.store.changes.read(ADA, head.last_change, head.last_change))
    await wait_for_length(printed, 7)
    await api.services.eraser.erase(ADA)


@pytest.mark.slow
@pytest.mark.parametrize("title", RECIPES)
async def test_a_recipe_works_as_written(
    api: ApiHarness, served: int, title: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    client, sleep = httpx.Client, time.sleep
    opened: list[httpx.Client] = []

    def connect(**options: Any) -> httpx.Client:
        opened.append(client(transport=ToServer(served), **options))
        return opened[-1]

    def shortcut(method: str) -> Callable[..., httpx.Response]:
        return lambda url, **options: connect().request(method, url, **options)

    names: dict[str, Any] = {"printed": (printed := []), "print": lambda *words: printed.append(words)}

    def run() -> None:
        exec(compile(RECIPES[title], title, "exec"), names)  # noqa: S102 - our own page

    with monkeypatch.context() as patched:
        patched.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.02)))
        patched.setattr(httpx, "Client", connect)
        patched.setattr(httpx, "get", shortcut("GET"))
        patched.setattr(httpx, "post", shortcut("POST"))
        async with anyio.create_task_group() as group:
            if title == "Follow one user":
                group.start_soon(change, api, printed)
            await anyio.to_thread.run_sync(run)
    for connected in opened:
        connected.close()
    EXPECTED[title](names)


def _check_stream(names: dict[str, Any]) -> None:
    (first, start), *events = names["printed"]
    assert first == "snapshot"
    assert [int(number) - int(start) for _, number in events] == list(range(1, 7)), "also after the cut"
    assert {name for name, _ in events} == {"bg.readings.recorded.v1"}


def _check_many(names: dict[str, Any]) -> None:
    numbers = {user: [int(event["id"].partition("/")[2]) for event in names["events"] if event["subject"] == user]
               for user in ("ada", "ben")}  # fmt: skip
    assert numbers == {user: list(range(1, names["cursors"][user] + 1)) for user in ("ada", "ben")}
    assert set(names["cursors"]) == {"ada", "ben"}, "eva is unknown"


def _check_snapshot(names: dict[str, Any]) -> None:
    assert len(names["table"]) == 880
    assert names["after"] == names["last"] > 1


def _check_digest(names: dict[str, Any]) -> None:
    assert names["table"].num_rows == names["manifest"]["rows"] == 882
    assert names["described"]["users"] == [{"user_id": "ada"}, {"user_id": "ben"}]


def _check_readers(names: dict[str, Any]) -> None:
    assert len(names["by_pandas"]) == names["by_polars"].height == names["by_duckdb"][0][0] == 880
    assert names["hourly"].notna().any()


def _check_training(names: dict[str, Any]) -> None:
    assert names["values"].height == 884
    assert names["known"].group_by("at", "user_id", "measured_at", "device").len()["len"].max() == 1


def _check_iglu(names: dict[str, Any]) -> None:
    assert len(names["table"]) == 880
    assert names["means"]["mean"].tolist() == pytest.approx([names["table"]["gl"].mean()])


EXPECTED: dict[str, Callable[[dict[str, Any]], None]] = {
    "Follow one user": _check_stream,
    "Follow many users": _check_many,
    "Rebuild a table from a snapshot": _check_snapshot,
    "A dataset and its digest": _check_digest,
    "Read with pandas, Polars and DuckDB": _check_readers,
    "A training table without values from the future": _check_training,
    "Feed iglu": _check_iglu,
}


def test_every_recipe_has_an_expected_result() -> None:
    assert set(RECIPES) == set(EXPECTED)
