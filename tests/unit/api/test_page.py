"""The page's shell and files: forms, media types, tags, policy, and the setting that disables it."""

import re
from pathlib import Path

import pytest

from bg_ingest.api import page
from bg_ingest.api.auth import Access
from bg_ingest.api.html import POLICY as POLICY_OF_DOCUMENTS
from tests.harness.api import ApiHarness, open_api

WEB = Path(page.__file__).parents[1] / "web"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
CONTRACT = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
MEDIA_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
FILES = sorted(path.name for path in WEB.iterdir() if path.suffix in MEDIA_TYPES)
MAX_FIRST_VIEW = 150_000
"""Bytes of the shell and the files of any one view."""
VIEWS = re.findall(r'module: "\./([\w.]+)"', (WEB / "main.js").read_text("utf-8"))


@pytest.mark.parametrize("accept", [BROWSER, "text/html", "TEXT/HTML", "text/html, application/json"])
async def test_a_browser_gets_the_page(api: ApiHarness, accept: str) -> None:
    answer = await api.http.get("/", headers={"Accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.content == (WEB / "index.html").read_bytes()


@pytest.mark.parametrize("accept", ["*/*", "text/*", "application/json", "", "text/html;q=0", "nonsense"])
async def test_a_program_gets_json(api: ApiHarness, accept: str) -> None:
    answer = await api.http.get("/", headers={"Accept": accept})
    assert answer.headers["content-type"] == "application/json"
    assert answer.text == '{"name":"bg-ingest","schema":"/schema"}'


@pytest.mark.parametrize("name", FILES)
async def test_a_file_is_served_as_it_is_with_its_type(api: ApiHarness, name: str) -> None:
    answer = await api.http.get(f"/page/{name}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == MEDIA_TYPES[Path(name).suffix]
    assert answer.content == (WEB / name).read_bytes()


@pytest.mark.parametrize("path", ["/", "/page/main.js"])
async def test_a_known_tag_is_answered_with_304_and_the_same_policy(api: ApiHarness, path: str) -> None:
    full = await api.http.get(path, headers={"Accept": BROWSER})
    assert full.headers["cache-control"] == "private, no-cache"
    assert full.headers["vary"] == "Accept"
    assert full.headers["etag"].startswith('W/"')
    again = await api.http.get(path, headers={"Accept": BROWSER, "If-None-Match": full.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    for name in ("etag", "cache-control", "vary", "content-security-policy"):
        assert again.headers[name] == full.headers[name]


async def test_the_two_forms_have_different_tags(api: ApiHarness) -> None:
    tags = {(await api.http.get("/", headers={"Accept": accept})).headers["etag"] for accept in (BROWSER, "*/*")}
    assert len(tags) == 2


@pytest.mark.parametrize("path", ["/", "/page/page.css"])
async def test_head_has_the_headers_and_no_body(api: ApiHarness, path: str) -> None:
    get, head = [await api.http.request(method, path, headers={"Accept": BROWSER}) for method in ("GET", "HEAD")]
    assert head.content == b""
    for name in ("etag", "content-type", "content-length", "content-security-policy"):
        assert head.headers[name] == get.headers[name]


@pytest.mark.parametrize("path", ["/", *(f"/page/{name}" for name in FILES)])
async def test_every_answer_has_the_policy_of_the_page(api: ApiHarness, path: str) -> None:
    answer = await api.http.get(path, headers={"Accept": BROWSER})
    assert answer.headers["content-security-policy"] == CONTRACT
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "set-cookie" not in answer.headers


async def test_other_html_keeps_its_own_policy(api: ApiHarness) -> None:
    answer = await api.http.get("/api/oauth/dexcom/callback")
    assert answer.headers["content-security-policy"] == POLICY_OF_DOCUMENTS


async def test_the_reference_permits_files_and_requests_of_its_origin_alone(api: ApiHarness) -> None:
    policy = (await api.http.get("/schema/page")).headers["content-security-policy"]
    assert re.sub("'sha256-[^']+'", "'sha256'", policy) == (
        "default-src 'none'; style-src 'sha256' 'self'; script-src 'self'; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    )


@pytest.mark.parametrize(
    "path",
    [
        "/page/absent.js",
        "/page/index.html",
        "/page/../api/page.py",
        "/page/..%2fapi%2fpage.py",
        "/page/%2e%2e/api/page.py",
        "/page/..%5cpage.py",
        "/page//etc/passwd",
        "/page/main.js%00",
        "/page/MAIN.JS",
    ],
)
async def test_any_other_path_is_404(api: ApiHarness, path: str) -> None:
    answer = await api.http.get(path)
    assert answer.status_code == 404
    assert answer.json()["type"] == "no-such-path"


async def test_the_page_needs_no_credential_where_the_api_does() -> None:
    async with open_api(Access.CLOSED) as closed:
        assert (await closed.http.get("/", headers={"Accept": BROWSER})).status_code == 200
        assert (await closed.http.get("/page/main.js")).status_code == 200
        assert (await closed.http.get("/page/absent.js")).status_code == 404
        assert closed.table.reads == 0


async def test_without_the_page_everyone_gets_json_and_no_file(api: ApiHarness) -> None:
    api.app.state.page_files = page.PageFiles()
    answer = await api.http.get("/", headers={"Accept": BROWSER})
    assert answer.json() == {"name": "bg-ingest", "schema": "/schema"}
    for name in FILES:
        assert (await api.http.get(f"/page/{name}")).status_code == 404


def add_imports(name: str, found: set[str]) -> None:
    """Add a module and all that it imports, also those that it loads later, except views."""
    found.add(name)
    for imported in re.findall(r"""["']\./([\w.]+\.js)["']""", (WEB / name).read_text("utf-8")):
        if imported not in found and imported not in VIEWS:
            add_imports(imported, found)


@pytest.mark.parametrize("view", VIEWS)
def test_the_first_view_is_small_whichever_it_is(view: str) -> None:
    found = {"index.html", "page.css", "icon.svg"}
    add_imports("main.js", found)
    add_imports(view, found)
    assert len(found) > 8
    assert sum((WEB / name).stat().st_size for name in found) < MAX_FIRST_VIEW


@pytest.mark.parametrize("path", sorted(WEB.iterdir()), ids=lambda path: path.name)
def test_a_file_is_short_and_contains_nothing_that_the_policy_refuses(path: Path) -> None:
    text = path.read_text("utf-8")
    assert path.suffix == ".css" or len(text.splitlines()) <= 250
    for refused in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "<style", "style="):
        assert refused not in text
    hosts = text.replace("http://www.w3.org/2000/svg", "")
    assert "http://" not in hosts
    assert "https://" not in hosts
