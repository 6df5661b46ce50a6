"""The page for people at `/`, and its files: a shell without data, whose scripts use the API."""

from collections.abc import Mapping
from functools import cache
from hashlib import blake2b
from importlib import resources
from pathlib import PurePath
from typing import Annotated, Any, TypeAlias

import msgspec
from litestar import MediaType, Request, Response, Router, get
from litestar.params import PathParameter

from bg_ingest.api.dependencies import RouteOptions, Use
from bg_ingest.api.etags import CACHE_HEADERS, make_etag, not_modified
from bg_ingest.api.formats import Format, negotiate
from bg_ingest.api.headers import request_header
from bg_ingest.api.openapi import responses, with_views
from bg_ingest.api.problems import build_problem

AnyRequest: TypeAlias = Request[Any, Any, Any]

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
"""Content security policy of the page and its files: nothing inline, nothing of another origin."""

_HEADERS = {**CACHE_HEADERS, "Vary": "Accept", "Content-Security-Policy": POLICY}
"""Also sent with a 304, because browsers replace the headers of their copy by those of the 304."""

_MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_INDEX = "index.html"
_JSON, _HTML = (Format(media_type, b"", lambda _: b"") for media_type in ("application/json", "text/html"))


class PageFile(msgspec.Struct, frozen=True):
    """A file of the page."""

    content: bytes
    media_type: str
    digest: str


class PageFiles(msgspec.Struct, frozen=True):
    """All files of the page. No request reads the file system."""

    index: PageFile | None = None
    """The shell; None if the page is disabled."""
    files: Mapping[str, PageFile] = {}


class Root(msgspec.Struct, frozen=True):
    """Answer to programs at `/`."""

    name: str = "bg-ingest"
    schema: str = "/schema"


@cache
def load_files() -> PageFiles:
    """Return the files of `bg_ingest/web`."""
    folder = resources.files("bg_ingest") / "web"
    contents = {entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.is_file()}
    files = {
        name: _describe(content, _MEDIA_TYPES[suffix])
        for name, content in contents.items()
        if (suffix := PurePath(name).suffix) in _MEDIA_TYPES
    }
    return PageFiles(_describe(contents[_INDEX], MediaType.HTML), files)


def _describe(content: bytes, media_type: str) -> PageFile:
    return PageFile(content, media_type, blake2b(content, digest_size=16).hexdigest())


@get(
    "/",
    operation_id="page",
    summary="The page",
    operation_class=with_views({"text/html": "<!doctype html><html>…</html>"}),
    responses=responses("A page for browsers, JSON for programs.", Root, Root(), problems=(403, 421)),
    sync_to_thread=False,
)
def page(request: AnyRequest, page_files: Use[PageFiles]) -> Response[Any]:
    """HTML if `Accept` names and prefers `text/html`, and PAGE is true; else JSON. 304 on a matching If-None-Match."""
    accept = request_header(request.scope, b"accept")
    names_html = _HTML.media_type in accept.lower()  # a client that accepts everything is a program
    if page_files.index and names_html and negotiate(accept, (_HTML, _JSON)) is _HTML:
        return _answer(request, page_files.index)
    return _answer(request, _describe(msgspec.json.encode(Root()), MediaType.JSON))


@get(
    "/page/{file:str}",
    operation_id="page_file",
    summary="A file of the page",
    responses=responses(
        "A script, a style sheet or an image.",
        str,
        "export const version = 1;",
        media_type="text/javascript",
        problems=(400, 403, 404, 421),
    ),
    sync_to_thread=False,
)
def page_file(
    request: AnyRequest,
    page_files: Use[PageFiles],
    file: Annotated[str, PathParameter(description="The name of the file, such as main.js.")],
) -> Response[Any]:
    """One of a fixed set of files. 304 on a matching If-None-Match."""
    found = page_files.files.get(file)
    if found is None:
        raise build_problem(404, "no-such-path", "There is no such file: open / instead.")
    return _answer(request, found)


def _answer(request: AnyRequest, file: PageFile) -> Response[Any]:
    headers = {**_HEADERS, "ETag": make_etag(request, file.media_type, file.digest)}
    return not_modified(request, headers) or Response(file.content, media_type=file.media_type, headers=headers)


router = Router(
    "/",
    route_handlers=[page, page_file],
    tags=["page"],
    opt=RouteOptions(public=True).opt(),
    security=[{}],
)
