"""An answer of unknown length, sent as it is made."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import anyio
from litestar import Request, Response
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Scope, Send

from bg_ingest.api.problems import log_failure


class StreamBody(ASGIResponse):
    """Starts once the first piece is there, and ends well only when all were sent.

    An error before is answered as a problem; one in between leaves the answer without its end, and the server cuts
    the connection: nobody takes it for whole. When the reader goes away, so does the generator.
    """

    _should_set_content_length = False

    def __init__(self, chunks: AsyncGenerator[bytes], headers: Mapping[str, str], media_type: str) -> None:
        super().__init__(headers=dict(headers), media_type=media_type)
        self.chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self.chunks):
            first = await anext(self.chunks)
            await self.start_response(send)
            async with anyio.create_task_group() as sending:
                sending.start_soon(_cancel_on_disconnect, receive, sending.cancel_scope)
                await _send_chunk(send, first)
                try:
                    async for chunk in self.chunks:
                        await _send_chunk(send, chunk)
                except Exception as error:
                    log_failure("answer_cut", scope, error)
                    raise
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                sending.cancel_scope.cancel()


class StreamedResponse(Response[AsyncGenerator[bytes]]):
    """What a handler returns to have ``StreamBody`` sent."""

    def to_asgi_response(self, app: object, request: Request[Any, Any, Any], **_: object) -> ASGIResponse:  # noqa: ARG002 - Litestar's signature
        """Return what sends it; all that Litestar would add is in the headers already."""
        return StreamBody(self.content, self.headers, str(self.media_type))


async def _send_chunk(send: Send, chunk: bytes) -> None:
    await send({"type": "http.response.body", "body": chunk, "more_body": True})


async def _cancel_on_disconnect(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
