"""Live streams of the page: nothing is missing and nothing is repeated after the service was killed."""

import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from bg_ingest.demo import connect_all
from tests.browser.conftest import Served, new_server
from tests.integration.processes import Server, start_server

RECONNECTED_WITHIN = 5.0
"""Seconds from the start of the service until the stream is live."""

OPEN = """async ([path, body]) => {
  const { openStream } = await import('/page/api.js');
  window.states = [];
  window.numbers = [];
  const abort = new AbortController();
  window.stop = () => abort.abort();
  openStream(body ? { path, body } : { path }, {
    signal: abort.signal,
    onState: (state) => window.states.push(state),
    onEvent: ({ id }) => (id.startsWith('ada/') || !body) && window.numbers.push(Number(id.split('/').pop())),
  });
}"""


@pytest.fixture
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Served]]:
    folder = tmp_path_factory.mktemp("killed")
    server = new_server(folder, BACKFILL_DAYS="1")
    with start_server(server), Served(f"http://localhost:{server.port}", folder / "output.log") as client:
        connect_all(client)
        yield server, client


def last_change(client: Served) -> int:
    number: int = client.get("/api/bg/ada/changes", params={"after": 0, "limit": 1}).json()["last"]
    return number


def wait_for(page: Page, expression: str, seconds: float) -> Any:
    """Poll, because the policy permits no evaluation of text inside the page."""
    deadline = time.monotonic() + seconds
    while not (value := page.evaluate(expression)):
        assert time.monotonic() < deadline, (expression, page.evaluate("[states, numbers.length]"))
        page.wait_for_timeout(50)
    return value


@pytest.mark.parametrize("many", [False, True], ids=["of one user", "of many users"])
def test_a_stream_is_live_within_5_s_after_a_kill_and_has_no_hole(
    chromium: Browser, served: tuple[Server, Served], *, many: bool
) -> None:
    server, client = served
    request = ["/api/changes", {"after": {"ada": 0, "ben": None}}] if many else ["/api/bg/ada/changes?after=0", None]
    with chromium.new_context(base_url=client.url) as context:
        page = context.new_page()
        page.goto("/")
        page.evaluate(OPEN, request)
        wait_for(page, "states.at(-1) === 'live' && numbers.length >= 1", 10)
        server.stop(signal.SIGKILL)
        wait_for(page, "states.at(-1) === 'reconnecting'", 2)
        server.start()
        wait_for(page, "states.at(-1) === 'live'", RECONNECTED_WITHIN)
        before = last_change(client)
        client.post("/api/users/ada/connections/dexcom/backfill", json={"from": "2026-01-01T00:00:00Z"})
        numbers = wait_for(page, f"numbers.at(-1) > {before} && numbers.slice()", 20)
        assert numbers == list(range(1, len(numbers) + 1))
        page.evaluate("stop()")
