"""Live streams of the page: nothing is missing and nothing is repeated after the service was killed."""

import signal
import time
from typing import Any

from playwright.sync_api import Page

from tests.browser.conftest import KEY, Served, Tab

RECONNECTED_WITHIN = 5.0
"""Seconds from the start of the service until the stream is live."""

ONE, MANY = ["/api/bg/ada/changes?after=0", None], ["/api/changes", {"after": {"ada": 0, "ben": None}}]
"""Streams of one user and of many: path and body."""

OPEN = """async (streams) => {
  const { openStream } = await import('/page/api.js');
  window.opened = streams.map(([path, body]) => {
    const kept = { states: [], numbers: [] };
    openStream(body ? { path, body } : { path }, {
      onState: (state) => kept.states.push(state),
      onEvent: ({ id }) => (id.startsWith('ada/') || !body) && kept.numbers.push(Number(id.split('/').pop())),
    });
    return kept;
  });
}"""


def last_change(client: Served) -> int:
    number: int = client.get("/api/bg/ada/changes", params={"after": 0, "limit": 1}).json()["last"]
    return number


def wait_for(page: Page, condition: str, seconds: float) -> Any:
    """Wait until a condition holds for each of the streams, and return their numbers."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(f"opened.every(({{ states, numbers }}) => {condition})"):
        assert time.monotonic() < deadline, (condition, page.evaluate("opened"))
        page.wait_for_timeout(50)
    return page.evaluate("opened.map(({ numbers }) => numbers)")


def test_streams_are_live_within_5_s_after_a_kill_and_have_no_hole(closed_page: Tab, closed: Served) -> None:
    page, watch = closed_page
    page.goto(f"/#key={KEY}")
    page.evaluate(OPEN, [ONE, MANY])
    wait_for(page, "states.at(-1) === 'live' && numbers.length >= 1", 10)
    closed.server.stop(signal.SIGKILL)
    wait_for(page, "states.at(-1) === 'reconnecting'", 2)
    closed.server.start()
    wait_for(page, "states.at(-1) === 'live'", RECONNECTED_WITHIN)
    before = last_change(closed)
    for paused in (True, False):
        closed.patch("/api/users/ada/connections/dexcom/worker", json={"paused": paused}).raise_for_status()
    for numbers in wait_for(page, f"numbers.at(-1) >= {before + 2}", 20):
        assert numbers == list(range(1, len(numbers) + 1))
    watch.complaints[:] = [
        complaint for complaint in watch.complaints if "ERR_" not in complaint
    ]  # of the killed service
