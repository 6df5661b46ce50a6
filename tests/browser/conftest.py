"""The page in Debian's Chromium, against real processes of the service with simulated users.

A test that uses `page` also fails for a request to another origin, a report of the content security policy, an error of
a script, and anything else on the browser's console.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, ViewportSize, sync_playwright

from bg_ingest.demo import connect_all
from tests.harness.cli import COMMAND, environment
from tests.integration.processes import Server, free_port, start_server

KEY = "bgi_browser_" + "k" * 43
"""Key with every permission of the closed service."""

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
OPTIONS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
SIZES: dict[str, ViewportSize] = {"desk": {"width": 1280, "height": 900}, "phone": {"width": 320, "height": 700}}


class Served(httpx.Client):
    """A running service and a client of it."""

    def __init__(self, url: str, log: Path, key: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        super().__init__(base_url=url, headers=headers, timeout=30, trust_env=False)
        self.url = url
        self.log = log


def new_server(folder: Path, **settings: str) -> Server:
    """Return a service that keeps everything in a folder."""
    port = free_port()
    given = {"PORT": str(port), "BACKFILL_DAYS": "15", "LOG_LEVEL": "DEBUG", "LOG_FORMAT": "json", **settings}
    return Server([*COMMAND, "run"], environment(**given), folder, port)


@contextmanager
def serve(folder: Path, key: str | None = None, **settings: str) -> Iterator[Served]:
    """Run a service in a folder, and connect its users."""
    server = new_server(folder, **settings)
    with start_server(server), Served(f"http://localhost:{server.port}", folder / "output.log", key) as served:
        connect_all(served)
        yield served


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service with an open API and three users with a past of 15 days; it serves until the end of the run."""
    with serve(tmp_path_factory.mktemp("demo")) as served:
        yield served


@pytest.fixture(scope="session")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The same with `KEY` as its credential, and the last day only."""
    folder = tmp_path_factory.mktemp("closed")
    with serve(folder, KEY, API_BOOTSTRAP_KEY=KEY, BACKFILL_DAYS="1") as served:
        yield served


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser per file: while the API of Playwright is open, no async test can run in this process."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


class Watch:
    """Messages and requests of a page that no test may cause."""

    def __init__(self, page: Page, *origins: str) -> None:
        self.complaints: list[str] = []
        self.addresses: list[str] = []
        self._origins = (*origins, "blob:")
        page.on("console", self._on_message)
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("request", lambda request: self._on_request(request.url))

    def _on_message(self, message: ConsoleMessage) -> None:
        if not message.text.startswith("Failed to load resource: the server responded"):  # statuses are the test's own
            self.complaints.append(f"{message.type}: {message.text}")

    def _on_request(self, url: str) -> None:
        self.addresses.append(url)
        if not url.startswith(self._origins):
            self.complaints.append(f"request to {url}")


@pytest.fixture
def page(chromium: Browser, demo: Served) -> Iterator[Page]:
    """A new tab of the open service: `page.goto("/#/ada")`."""
    with chromium.new_context(base_url=demo.url, viewport=SIZES["desk"]) as context:
        page = context.new_page()
        page.set_default_timeout(10_000)
        watch = Watch(page, demo.url)
        yield page
        assert watch.complaints == []


@pytest.fixture
def closed_page(chromium: Browser, closed: Served) -> Iterator[tuple[Page, Watch]]:
    """A new tab of the service that asks for a credential, and the record of its requests."""
    with chromium.new_context(base_url=closed.url, viewport=SIZES["desk"]) as context:
        page = context.new_page()
        page.set_default_timeout(10_000)
        watch = Watch(page, closed.url)
        yield page, watch
        assert watch.complaints == []


@pytest.fixture(scope="session")
def assert_accessible() -> Callable[[Page], None]:
    """Assert 0 violations of axe's rules in light and dark; the page keeps its state."""

    def check(page: Page) -> None:
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            results = Axe().run(page)
            assert results.violations_count == 0, f"{scheme}: {results.generate_report()}"

    return check
