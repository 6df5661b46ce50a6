"""An answer of unknown length, sent as it is made."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import anyio
from litestar import Request, Response
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Scope, Send

from bg_ingest.api.errors import log_failure


class Pieces(ASGIResponse):
    """Starts once the first piece is there, and ends well only when all were sent.

    An error before is answered as a problem; one in between leaves the answer without its end, and the server cuts
    the connection: nobody takes it for whole. When the reader goes away, so does the generator.
    """

    _should_set_content_length = False

    def __init__(self, pieces: AsyncGenerator[bytes], headers: Mapping[str, str], media_type: str) -> None:
        super().__init__(headers=dict(headers), media_type=media_type)
        self.pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self.pieces):
            first = await anext(self.pieces)
            await self.start_response(send)
            async with anyio.create_task_group() as sending:
                sending.start_soon(_cancel_when_gone, receive, sending.cancel_scope)
                await _send_piece(send, first)
                try:
                    async for piece in self.pieces:
                        await _send_piece(send, piece)
                except Exception as error:
                    log_failure("answer_cut", scope, error)
                    raise
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                sending.cancel_scope.cancel()


class Streamed(Response[AsyncGenerator[bytes]]):
    """What a handler returns to have ``Pieces`` sent."""

    def to_asgi_response(self, app: object, request: Request[Any, Any, Any], **_: object) -> ASGIResponse:  # noqa: ARG002 - Litestar's signature
        """Return what sends it; all that Litestar would add is in the headers already."""
        return Pieces(self.content, self.headers, str(self.media_type))


async def _send_piece(send: Send, piece: bytes) -> None:
    await send({"type": "http.response.body", "body": piece, "more_body": True})


async def _cancel_when_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
