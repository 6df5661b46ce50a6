"""Kill the replica that serves a page, while a second one is behind the same address. Exit code 1 if a limit is missed.

    python -m tests.long.browser.replica_kill --kills 6

The page shows one person. Readings are pushed through the other replica before, during and after the kill. The stream
must be live again within 5 s, and the chart must have every reading that the API has.
"""

import re
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import rich_click as click
from playwright.sync_api import Page

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.simulator import SimulatorOptions
from bg_ingest.simulator.data import user_id
from tests.harness.webhook_sender import SECRET, envelope, record, signed, to_bytes
from tests.integration.processes import free_port, start_ministack, start_server
from tests.integration.servers import REGION
from tests.long.browser.chromium import run_chromium
from tests.long.browser.forwarder import forward
from tests.long.chaos.processes import (
    Process,
    provider_settings,
    run_folder,
    service_settings,
    simulator,
    wait_until,
)
from tests.long.chaos.report import Report
from tests.long.chaos.users import SimulatedUser, connect

PERSON = SimulatedUser("ada", "SandboxUser1")
LIMIT_SECONDS = 5.0
PUSHES, PUSH_SECONDS = 12, 0.25
"""Readings pushed after a kill, and the time between them."""

STATES = """() => {
  const stream = document.querySelector(".now-stream");
  window.states = [];
  const add = () => window.states.push([Date.now() / 1000, stream.textContent]);
  new MutationObserver(add).observe(stream, { childList: true, characterData: true, subtree: true });
  add();
}"""


def start_replica(folder: Path, name: str, store_port: int, provider: dict[str, str]) -> Process:
    port = free_port()
    parts = {
        "DYNAMODB_ENDPOINT": f"http://127.0.0.1:{store_port}", "DYNAMODB_TABLE": "bg-ingest", "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        "WEBHOOK_SIGNING_SECRETS": SECRET, "BACKFILL_DAYS": "1",
    }  # fmt: skip
    process = Process(
        folder, name, "bg_ingest.cli", "run", port=port, **(service_settings(folder, port) | parts | provider)
    )
    process.start()
    process.get_ready(60)
    return process


class Pusher:
    """Sends readings of the last two hours, each a minute after the one before."""

    def __init__(self, account: str) -> None:
        self._account = account
        self._at = SystemClock().now().replace(microsecond=0) - timedelta(hours=2)
        self.accepted: list[datetime] = []

    def push(self, replica: Process) -> None:
        self._at += timedelta(minutes=1)
        body = envelope(self._account, [record(self._at, 100 + len(self.accepted) % 50)])
        signatures = signed(body, f"pushed-{self._at.timestamp()}", SystemClock().now())
        headers = [(name.encode(), to_bytes(value)) for name, value in signatures.items()]
        path = f"{replica.url}/api/bg/{PERSON.user}/webhook"
        httpx.post(path, content=body, headers=headers, trust_env=False).raise_for_status()
        self.accepted.append(self._at)


def shown_rows(page: Page) -> list[str]:
    texts: list[str] = page.locator(".line-chart tbody tr").all_inner_texts()
    rows = [text.split("\t")[:2] for text in texts]
    return [" ".join(row) for row in rows if re.search(r"\w", row[1])]


def api_rows(replica: Process) -> list[str]:
    answer = httpx.get(f"{replica.url}/api/bg/{PERSON.user}", params={"view": "full"}, trust_env=False)
    rows = []
    for reading in answer.raise_for_status().json():
        at = datetime.fromisoformat(reading["timestamp"]) + timedelta(seconds=reading["utc_offset_seconds"])
        rows.append(f"{at:%H:%M} {reading['glucose_mg_dl'] if reading['flag'] == 'ok' else reading['flag'].upper()}")
    return rows


def kill_once(page: Page, serving: Process, other: Process, pusher: Pusher, report: Report) -> float:
    """Kill one replica; return the seconds until the page's stream is live."""
    page.evaluate(STATES)
    pusher.push(other)
    serving.kill()
    killed_at = SystemClock().now().timestamp()
    for _ in range(PUSHES):
        pusher.push(other)
        page.wait_for_timeout(PUSH_SECONDS * 1000)
    page.wait_for_function("() => window.states.length > 2 && window.states.at(-1)[1] === 'Live updates.'")
    states: list[tuple[float, str]] = page.evaluate("window.states")
    seen = [text for _, text in states]
    report.check(
        "states of the stream", " → ".join(seen), holds="Reconnecting to live updates…" in seen, expected="lost"
    )
    deadline = time.monotonic() + LIMIT_SECONDS
    while shown_rows(page) != api_rows(other) and time.monotonic() < deadline:
        page.wait_for_timeout(200)
    shown, expected = shown_rows(page), api_rows(other)
    missing = len(set(expected) - set(shown))
    report.check(
        "rows of the chart's table; of the API; missing",
        f"{len(shown)}; {len(expected)}; {missing}",
        holds=shown == expected,
        expected="the same",
    )
    return states[-1][0] - killed_at


def run_kills(page: Page, replicas: Sequence[Process], pusher: Pusher, kills: int, report: Report) -> list[float]:
    seconds = []
    for number in range(kills):
        serving, other = replicas[number % 2], replicas[(number + 1) % 2]
        seconds.append(kill_once(page, serving, other, pusher, report))
        serving.start()
        serving.get_ready(60)
    return seconds


@click.command()
@click.option("--kills", default=6, show_default=True)
def main(kills: int) -> None:
    report = Report("The replica of a page is killed")
    options = SimulatorOptions(users=3)
    with run_folder("page-kill") as folder, ExitStack() as opened:
        store = start_ministack(folder / "store")
        opened.enter_context(start_server(store))
        simulated = opened.enter_context(simulator(folder, options))
        provider = provider_settings(simulated, options)
        replicas = [start_replica(folder, name, store.port, provider) for name in ("one", "two")]
        for replica in replicas:
            opened.callback(replica.kill)
        wait_until(lambda: connect(replicas[0], PERSON), 30, "the user to connect")
        pusher = Pusher(user_id(options.seed, options.client_id, PERSON.login))
        wait_until(lambda: len(api_rows(replicas[0])) > 200, 60, "the past readings")
        port = opened.enter_context(forward([replica.port for replica in replicas]))
        browser = opened.enter_context(run_chromium())
        page = browser.new_page(base_url=f"http://127.0.0.1:{port}")
        page.goto(f"/#/{PERSON.user}")
        page.locator(".now-stream", has_text="Live updates.").wait_for()
        page.locator(".line-chart .chart-plot").press("t")
        seconds = run_kills(page, replicas, pusher, kills, report)
        slowest = max(seconds)
        report.figure("pushed readings", len(pusher.accepted))
        report.figure("seconds from the kill until live", ", ".join(f"{each:.2f}" for each in seconds))
        report.check("slowest, s", round(slowest, 2), holds=slowest < LIMIT_SECONDS, expected=f"< {LIMIT_SECONDS}")
    report.show()


if __name__ == "__main__":
    main()
