"""Headers of every answer: the request's id, and restrictions for browsers because of the health data."""

import re
from secrets import token_hex

from litestar.types import HTTPResponseStartEvent, Scope

from bg_ingest.api.html import POLICY
from bg_ingest.domain.windows import Window

_ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")

_UNSAFE_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]")
_EXTENSIONS = {
    "application/vnd.apache.parquet": "parquet",
    "application/vnd.apache.arrow.stream": "arrows",
    "application/x-ndjson": "ndjson",
    "text/csv": "csv",
}
"""Extensions of file names; `arrows` is the registered one of Arrow streams."""

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)

_HSTS_HEADER = (b"strict-transport-security", b"max-age=31536000")
"""Valid for a year. A forged X-Forwarded-Proto adds it only to the answer of the forged request. Browsers ignore it
over http."""

_PAGE_HEADERS = (*_HEADERS, (b"content-security-policy", POLICY.encode()))
_API_HEADERS = (*_HEADERS, (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"))


def request_header(scope: Scope, name: bytes) -> str:
    """Return a header of the request by its lower-case name; empty if it was not sent."""
    for header, value in scope["headers"]:
        if header == name:
            return value.decode("latin-1")
    return ""


def request_id(scope: Scope) -> str:
    """Return X-Request-Id if it is short and safe to log, else a new id. The id is the same for the whole request."""
    existing: str | None = scope["state"].get("request_id")
    if existing is None:
        given = request_header(scope, b"x-request-id")
        existing = given if _ACCEPTABLE_ID.match(given) else token_hex(16)
        scope["state"]["request_id"] = existing
    return existing


def attachment(name: str, window: Window, media_type: str) -> dict[str, str]:
    """Return the header of a file that is named after its content and the dates of its window."""
    dates = f"{window.start:%Y-%m-%d}_{window.end:%Y-%m-%d}"
    extension = _EXTENSIONS[media_type.partition(";")[0]]
    safe_name = _UNSAFE_IN_NAMES.sub("_", name)
    return {"Content-Disposition": f'attachment; filename="{safe_name}_{dates}.{extension}"'}


def add_headers(message: HTTPResponseStartEvent, scope: Scope) -> None:
    """Add missing headers to the start of an answer. Pairs stay raw bytes, because this runs for every answer."""
    headers = [(name.lower(), value) for name, value in message.get("headers", ())]
    present = dict(headers)
    if b"allow" in present:
        headers = [(name, _allowed_methods(scope, value) if name == b"allow" else value) for name, value in headers]
    if b"x-request-id" in present:
        headers = [header for header in headers if header[0] != b"x-request-id"]
    defaults = _PAGE_HEADERS if present.get(b"content-type", b"").startswith(b"text/html") else _API_HEADERS
    headers += [header for header in defaults if header[0] not in present]
    if scope.get("scheme") == "https" or request_header(scope, b"x-forwarded-proto") == "https":
        headers.append(_HSTS_HEADER)
    headers.append((b"x-request-id", request_id(scope).encode()))
    message["headers"] = headers


def _allowed_methods(scope: Scope, given: bytes) -> bytes:
    """Return all methods of a path. Litestar's own answer to OPTIONS omits methods that were added to the path later.

    HEAD is answered wherever GET is (see `entry.answer_head`), and no route declares it.
    """
    methods = set(given.decode().split(", "))
    if scope.get("method") == "OPTIONS":
        routes = (route for route in scope["litestar_app"].routes if route.path_format == scope["path_template"])
        methods = {method for route in routes for method in getattr(route, "methods", ())}
    return ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set()))).encode()
