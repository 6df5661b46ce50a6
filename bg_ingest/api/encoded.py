"""Answers that are encoded here, without Litestar's response.

Litestar's own response merges the headers, cookies and encoders of all layers. The layers of this API declare none, and
the merge takes a quarter of the time of a short answer.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from litestar import Request, Response
from litestar.response.base import ASGIResponse
from litestar.types import Message, Receive, Scope, Send

Content = TypeVar("Content")

_encode = msgspec.json.Encoder().encode


class EncodedResponse(Response[Content]):
    """JSON of a struct, or an answer without content."""

    def to_asgi_response(self, app: object, request: Request[Any, Any, Any], **_: object) -> ASGIResponse:  # noqa: ARG002 - Litestar's signature
        """Return the encoded answer."""
        headers = encode_headers(self.headers)
        body = b""
        if self.content is not None:
            body = _encode(self.content)
            headers += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        start: Message = {"type": "http.response.start", "status": self.status_code or 200, "headers": headers}

        async def send_both(_: Scope, __: Receive, send: Send) -> None:
            await send(start)
            await send({"type": "http.response.body", "body": body, "more_body": False})

        return send_both  # type: ignore[return-value]  # Litestar only calls it


def encode_headers(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Return headers as pairs of bytes, with names in lower case."""
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
