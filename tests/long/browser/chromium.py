"""A real browser for the long runs: the processor time of all its processes, and the heap of a page."""

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, CDPSession, sync_playwright

from tests.browser.conftest import CHROMIUM, OPTIONS
from tests.long.chaos.processes import processor


@contextmanager
def run_chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


def processor_seconds(browser: Browser) -> float:
    """Return the processor time of all processes of the browser."""
    session = browser.new_browser_cdp_session()
    processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
    session.detach()
    return sum(processor(process["id"]) for process in processes if process["id"])


def heap_megabytes(session: CDPSession) -> float:
    """Return the used heap of a page's scripts after a collection of garbage."""
    session.send("HeapProfiler.collectGarbage")
    metrics = {metric["name"]: metric["value"] for metric in session.send("Performance.getMetrics")["metrics"]}
    return float(metrics["JSHeapUsedSize"]) / 1_000_000
