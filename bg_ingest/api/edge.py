"""What every answer carries, whoever gives it: the request's id, and what browsers must not do with health data."""

import re
from uuid import uuid4

from litestar.datastructures import MutableScopeHeaders
from litestar.types import Message, Scope

from bg_ingest.api.pages import POLICY

_ACCEPTABLE_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}

_NOTHING = "default-src 'none'; frame-ancestors 'none'"
"""The policy of answers that are no pages."""


def request_id(scope: Scope) -> str:
    """Return the id the caller gave, if it is short and harmless in a log, else one of ours; the same all along."""
    known: str | None = scope["state"].get("request_id")
    if known is None:
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        known = given.decode() if _ACCEPTABLE_ID.match(given) else uuid4().hex
        scope["state"]["request_id"] = known
    return known


async def seal_headers(message: Message, scope: Scope) -> None:
    """Add the headers that are missing just before an answer starts."""
    if message["type"] != "http.response.start":
        return
    headers = MutableScopeHeaders.from_message(message)
    headers["X-Request-Id"] = request_id(scope)
    for name, value in _HEADERS.items():
        headers.setdefault(name, value)
    is_page = headers.get("content-type", "").startswith("text/html")
    headers.setdefault("Content-Security-Policy", POLICY if is_page else _NOTHING)
