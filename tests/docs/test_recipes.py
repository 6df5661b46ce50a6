"""Every recipe of docs/consumers.md works as written, on the API of a service with two users."""

import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio.from_thread
import anyio.to_thread
import httpx
import msgspec
import pytest

from bg_ingest.domain.ids import UserId
from bg_ingest.domain.readings import Flag
from tests.docs.source import ROOT
from tests.harness.api import ApiHarness, open_api, reading

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


class InApplication(httpx.BaseTransport):
    """Sends the requests of a thread to the application in the event loop."""

    def __init__(self, api: ApiHarness) -> None:
        self._api = api

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        async def send() -> httpx.Response:
            url = request.url.copy_with(scheme="http", host="ingest.test", port=None)
            headers = {name: value for name, value in request.headers.items() if name != "host"}
            answer = await self._api.http.request(request.method, url, headers=headers, content=request.read())
            return httpx.Response(answer.status_code, content=answer.content)

        return anyio.from_thread.run(send)


@pytest.mark.slow
@pytest.mark.parametrize("title", RECIPES)
async def test_a_recipe_works_as_written(
    api: ApiHarness, title: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    client = httpx.Client

    def connect(**options: Any) -> httpx.Client:
        return client(transport=InApplication(api), **options)

    def shortcut(method: str) -> Callable[..., httpx.Response]:
        return lambda url, **options: connect().request(method, url, **options)

    names: dict[str, Any] = {}

    def run() -> None:
        exec(compile(RECIPES[title], title, "exec"), names)  # noqa: S102 - our own page

    with monkeypatch.context() as patched:
        patched.setattr(httpx, "Client", connect)
        patched.setattr(httpx, "get", shortcut("GET"))
        patched.setattr(httpx, "post", shortcut("POST"))
        await anyio.to_thread.run_sync(run)
    EXPECTED[title](names)


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
    assert len(names["text"].splitlines()) == 881


EXPECTED: dict[str, Callable[[dict[str, Any]], None]] = {
    "Rebuild a table from a snapshot": _check_snapshot,
    "A dataset and its digest": _check_digest,
    "Read with pandas, Polars and DuckDB": _check_readers,
    "A training table without values from the future": _check_training,
    "Feed iglu": _check_iglu,
}


def test_every_recipe_has_an_expected_result() -> None:
    assert set(RECIPES) == set(EXPECTED)
