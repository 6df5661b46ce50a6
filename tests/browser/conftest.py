"""The page in Debian's Chromium, against real processes of the service with simulated users.

A test that uses `page` also fails for a request to another origin, a report of the content security policy, an error of
a script, and anything else on the browser's console.

The tests of this folder run on a thread of their own. Playwright keeps an event loop open in its thread, and no async
test could run in that thread while one browser serves all files.
"""

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import ROUND_HALF_UP, Decimal
from functools import wraps
from pathlib import Path
from typing import Any, Literal, NamedTuple, ParamSpec, TypeVar

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, ViewportSize, sync_playwright

from bg_ingest.demo import connect_all
from tests.harness.cli import COMMAND, environment
from tests.integration.processes import Server, free_port, start_server

KEY = "bgi_browser_" + "k" * 43
"""Key with every permission of the closed service."""

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
OPTIONS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
SCHEMES: dict[Literal["light", "dark"], dict[str, Any] | None] = {"light": None, "dark": {"runOnly": ["cat.color"]}}
"""Options of axe. Dark differs from light in colours alone."""

THREAD = ThreadPoolExecutor(1, "playwright")
SIZES: dict[str, ViewportSize] = {"desk": {"width": 1280, "height": 900}, "phone": {"width": 320, "height": 700}}

P = ParamSpec("P")
T = TypeVar("T")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool:
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    THREAD.submit(pyfuncitem.obj, **arguments).result()
    return True


def on_thread(fixture: Callable[P, Iterator[T]]) -> Callable[P, Iterator[T]]:
    """Run both parts of a fixture on the thread of the tests."""

    @wraps(fixture)
    def run(*args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        parts = fixture(*args, **kwargs)
        yield THREAD.submit(next, parts).result()
        THREAD.submit(next, parts, None).result()

    return run


class Served(httpx.Client):
    """A running service and a client of it."""

    def __init__(self, server: Server, log: Path, key: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        url = f"http://localhost:{server.port}"
        super().__init__(base_url=url, headers=headers, timeout=30, trust_env=False)
        self.url = url
        self.log = log
        self.server = server


def new_server(folder: Path, **settings: str) -> Server:
    """Return a service that keeps everything in a folder."""
    port = free_port()
    given = {"PORT": str(port), "BACKFILL_DAYS": "15", "LOG_LEVEL": "DEBUG", "LOG_FORMAT": "json", **settings}
    return Server([*COMMAND, "run"], environment(**given), folder, port)


@contextmanager
def serve(folder: Path, key: str | None = None, **settings: str) -> Iterator[Served]:
    """Run a service in a folder, and connect its users."""
    server = new_server(folder, **settings)
    with start_server(server), Served(server, folder / "output.log", key) as served:
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


@pytest.fixture(scope="session")
@on_thread
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


class Watch:
    """Messages and requests of a page that no test may cause."""

    def __init__(self, page: Page, origin: str) -> None:
        self.complaints: list[str] = []
        self.addresses: list[str] = []
        self._origins = (origin, "blob:")
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


class Tab(NamedTuple):
    """A page, and the record of its messages and requests."""

    page: Page
    watch: Watch


def open_tab(context: BrowserContext, served: Served) -> Tab:
    page = context.new_page()
    page.set_default_timeout(10_000)
    return Tab(page, Watch(page, served.url))


@contextmanager
def clean_tab(tab: Tab) -> Iterator[None]:
    """Let a test use a tab, check its record, and make the tab as it was: a new one costs a second of CPU time."""
    tab.watch.complaints.clear()
    tab.watch.addresses.clear()
    try:
        yield
        assert tab.watch.complaints == []
    finally:
        tab.page.unroute_all(behavior="ignoreErrors")
        tab.page.goto("/health/live")  # of the same origin, and without scripts
        tab.page.evaluate("localStorage.clear(), sessionStorage.clear()")
        tab.page.set_viewport_size(SIZES["desk"])
        tab.page.emulate_media(color_scheme="null", media="null", forced_colors="null")
        tab.page.context.clear_permissions()


@pytest.fixture(scope="session")
@on_thread
def open_service_tab(chromium: Browser, demo: Served) -> Iterator[Tab]:
    with chromium.new_context(base_url=demo.url, viewport=SIZES["desk"]) as context:
        yield open_tab(context, demo)


@pytest.fixture(scope="session")
@on_thread
def closed_service_tab(chromium: Browser, closed: Served) -> Iterator[Tab]:
    with chromium.new_context(base_url=closed.url, viewport=SIZES["desk"]) as context:
        yield open_tab(context, closed)


@pytest.fixture
@on_thread
def page(open_service_tab: Tab) -> Iterator[Page]:
    """An empty tab of the open service: `page.goto("/#/ada")`."""
    with clean_tab(open_service_tab):
        yield open_service_tab.page


@pytest.fixture
@on_thread
def clocked_page(chromium: Browser, demo: Served) -> Iterator[Page]:
    """A tab of the open service for tests that set its clock, because no clock can be taken away again."""
    with chromium.new_context(base_url=demo.url, viewport=SIZES["desk"]) as context:
        tab = open_tab(context, demo)
        yield tab.page
        assert tab.watch.complaints == []


@pytest.fixture
@on_thread
def closed_page(closed_service_tab: Tab) -> Iterator[Tab]:
    """An empty tab of the service that asks for a credential."""
    with clean_tab(closed_service_tab):
        yield closed_service_tab


@pytest.fixture(scope="session")
def assert_accessible() -> Callable[[Page], None]:
    """Assert 0 violations of axe's rules in light, and of those on colours in dark; the page keeps its state."""

    def check(page: Page) -> None:
        for scheme, options in SCHEMES.items():
            page.emulate_media(color_scheme=scheme)
            results = Axe().run(page, options=options)
            assert results.violations_count == 0, f"{scheme}: {results.generate_report()}"

    return check


def rounded(value: float, step: str) -> str:
    """Return the exact value rounded half up, as `toFixed` does."""
    return str(Decimal(value).quantize(Decimal(step), ROUND_HALF_UP))
