"""Rules for every request, applied around its routing: encoded slashes, HEAD, order of requests, headers, audit."""

import re
from functools import partial
from typing import Any
from urllib.parse import unquote

import anyio
from litestar import Litestar
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from bg_ingest.api.fairness import Admission
from bg_ingest.api.headers import add_headers
from bg_ingest.api.users import record_access

_ENCODED_SLASH = re.compile(rb"%2f", re.IGNORECASE)


class Api(Litestar):
    """Application whose requests pass the rules of this module first."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - the server's
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        keep_encoded_slashes(scope)
        app = partial(answer_head, super().__call__) if scope["method"] == "HEAD" else super().__call__
        admission: Admission = self.state.admission
        await admission.run(app, scope, receive, _complete_response_start(scope, send))


def _complete_response_start(scope: HTTPScope, send: Send) -> Send:
    """Return a ``send`` that adds the common headers to the start of an answer, and records access for the audit."""

    async def send_completed(message: Message) -> None:
        if message["type"] == "http.response.start":
            add_headers(message, scope)
            record_access(scope, message["status"])
        await send(message)

    return send_completed


def keep_encoded_slashes(scope: Scope) -> None:
    """Leave `%2F` encoded in the path, because an encoded slash does not separate path segments.

    The server decodes the whole path, so `ada%2Flatest` would reach another route.
    """
    raw_path = scope.get("raw_path") or b""
    if b"%" in raw_path and _ENCODED_SLASH.search(raw_path):
        scope["path"] = unquote(_ENCODED_SLASH.sub(b"%252F", raw_path.partition(b"?")[0]).decode("latin-1"))


async def answer_head(app: ASGIApp, scope: Any, receive: Receive, send: Send) -> None:  # noqa: ANN401 - the server's
    """Answer as GET, without the body. A streamed answer is cancelled at its first piece."""
    with anyio.CancelScope() as answering:

        async def send_without_body(message: Message) -> None:
            if message["type"] != "http.response.body":
                await send(message)
                return
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            answering.cancel()

        scope["method"] = "GET"
        try:
            await app(scope, receive, send_without_body)
        finally:
            scope["method"] = "HEAD"
