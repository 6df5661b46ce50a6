"""Changes as server-sent events (WHATWG HTML, section 9.2): the answer, its time limits, and the form of an event."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from math import inf
from random import randint
from typing import Any, TypeAlias

import anyio
import msgspec
from litestar import Request, Response
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Scope, Send

from bg_ingest.api.auth import bearer_token, caller_of
from bg_ingest.api.formats import Format
from bg_ingest.api.schemas import to_latest
from bg_ingest.api.users import audited_route
from bg_ingest.api.validation import read_body
from bg_ingest.domain.access import ANONYMOUS
from bg_ingest.domain.ids import UserId
from bg_ingest.services.queries.event_hub import EventHub
from bg_ingest.services.queries.many_users import EventOf, Snapshot, Unknown
from bg_ingest.services.queries.stream import Heartbeat, StreamClient, StreamItem

AnyRequest: TypeAlias = Request[Any, Any, Any]
Chunks: TypeAlias = AsyncGenerator[bytes]

UNREAD_SECONDS = 20.0
"""Time that one piece may stay unread, after which the answer is cut."""

RETRY_MILLISECONDS = (1_000, 4_000)
"""Bounds of the random wait of a client before it reconnects, so that not all clients reconnect at once."""

_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""The second one disables the buffering of nginx."""


def _encode_item(item: StreamItem, *, many: bool) -> bytes:
    """Return an item as an event; a comment for a heartbeat. In streams of many users, an id includes the user id."""
    match item:
        case EventOf(user, event):
            return _encode_event(event.type, f"{user}/{event.number}" if many else event.number, event.body)
        case Snapshot(user, change, latest, missed):
            newest = None if latest is None else to_latest(latest.newest, latest.freshness())
            data = {"user_id": user, "change": change, "latest": newest, "missed": missed}
            return _encode_event("snapshot", f"{user}/{change}" if many else change, msgspec.json.encode(data))
        case Unknown(user):
            return _encode_event("unknown", None, msgspec.json.encode({"user_id": user})) if many else b""
        case Heartbeat():
            return b":\n\n"
        case _:
            return _encode_event("end", None, msgspec.json.encode({"reason": item.reason}))


def _encode_event(name: str, number: int | str | None, data: bytes) -> bytes:
    identity = b"" if number is None else f"id: {number}\n".encode()
    return b"event: %b\n%bdata: %b\n\n" % (name.encode(), identity, data)


EVENT_STREAM = Format("text/event-stream", b"", lambda items: b"".join(_encode_item(item, many=True) for item in items))


def stream_changes(
    request: AnyRequest,
    hub: EventHub,
    after: Mapping[UserId, int | None],
    first: Sequence[StreamItem] = (),
    *,
    many: bool,
) -> Response[Any]:
    """Return the stream of the users' changes after the numbers in ``after``; None starts at now.

    The items of ``first`` precede the changes. Without ``many`` there is one user, who must be known.
    """
    caller = caller_of(request.scope) or ANONYMOUS
    token = None if caller is ANONYMOUS else bearer_token(request.scope)
    client = StreamClient(caller.name, token, audited_route(request.scope["method"], request.scope["path_template"]))

    async def chunks(wait_for_disconnect: Callable[[], Any]) -> Chunks:
        with hub.open(client, list(after)) as stream:
            # The body is read first, because a wake-up of the stream cancels the `receive` in progress. After a
            # cancelled first `receive` of a request, granian answers the next one with a disconnect.
            await read_body(request, too_large="The body is too large: send none.")
            await hub.begin(stream, after, required=not many)
            yield b"retry: %d\n\n" % randint(*RETRY_MILLISECONDS)
            async with aclosing(stream.items(wait_for_disconnect)) as items:
                for item in first:
                    yield _encode_item(item, many=many)
                async for item in items:
                    yield _encode_item(item, many=many)

    return EventStreamResponse(chunks, media_type=EVENT_STREAM.media_type, headers=_HEADERS)


class EventStreamBody(ASGIResponse):
    """Sends pieces as they appear, in the task of the request. An error before the first piece becomes a problem.

    The request is left out of the histogram of durations.
    """

    _should_set_content_length = False

    def __init__(
        self, chunks: Callable[[Callable[[], Any]], Chunks], headers: Mapping[str, str], media_type: str
    ) -> None:
        super().__init__(headers=dict(headers), media_type=media_type)
        self._chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._chunks(partial(_wait_for_disconnect, receive))) as chunks:
            chunk: bytes | None = await anext(chunks)
            scope["state"]["is_event_stream"] = True
            await self.start_response(send)
            # one scope for all pieces, because a new one for each piece took a tenth of the CPU time of a heartbeat
            with anyio.CancelScope() as sending:
                while chunk is not None:
                    sending.deadline = anyio.current_time() + UNREAD_SECONDS
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                    sending.deadline = inf
                    chunk = await anext(chunks, None)
                await send({"type": "http.response.body", "body": b"", "more_body": False})


class EventStreamResponse(Response[Callable[[Callable[[], Any]], Chunks]]):
    """Response of a handler, sent by `EventStreamBody`."""

    def to_asgi_response(self, app: object, request: AnyRequest, **_: object) -> ASGIResponse:  # noqa: ARG002 - Litestar's signature
        """Return the body; the headers already hold everything that Litestar would add."""
        return EventStreamBody(self.content, self.headers, str(self.media_type))


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
