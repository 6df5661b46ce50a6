"""HTTP client of all providers, with a limit on the size of answers.

GET requests use kept connections. Any other request has a new connection.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, cast

import httpx

from bg_ingest.domain.unpacking import Gunzip, UnpackedTooLarge

MAX_ANSWER_BYTES = 8 * 1_048_576
"""Largest answer, both as sent and unpacked: more than twice the largest page, 30 days of a 5-minute sensor."""

MAX_CONNECTIONS = 256

MAX_KEPT_CONNECTIONS = 32
"""Idle connections; more than a replica uses at once at the provider's limit of 17 calls per second."""

KEEP_ALIVE_SECONDS = 4.0
"""Time for which an idle connection is kept, below the shortest usual limit of servers (5 s: Node.js, Apache)."""


class AnswerTooLarge(httpx.DecodingError):
    """The answer has more than ``MAX_ANSWER_BYTES``. The rest of it is not received."""


class BoundedClient(httpx.AsyncClient):
    """Client with a limit on the size of answers. Only GET requests use kept connections.

    A server may close an idle connection just as the next request is sent on it. A GET is then sent once more, on a
    new connection. Any other request may hold a single-use refresh token and must not be sent twice. It therefore
    always has a connection of its own.

    httpx itself would unpack each received piece as a whole: 64 KB could become 64 MB before a caller counts the bytes.
    """

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - httpx's own
        kept = httpx.Limits(
            max_connections=MAX_CONNECTIONS,
            max_keepalive_connections=MAX_KEPT_CONNECTIONS,
            keepalive_expiry=KEEP_ALIVE_SECONDS,
        )
        super().__init__(limits=kept, **options)
        single_use = httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=0)
        self._single_use = httpx.AsyncClient(limits=single_use, **options)  # keeps nothing, so it needs no close

    async def send(self, request: httpx.Request, *, stream: bool = False, **options: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own
        request.headers["accept-encoding"] = "gzip"
        send = self._send_get if request.method == "GET" else self._single_use.send
        response = await send(request, stream=True, **options)
        encoding = response.headers.pop("content-encoding", "identity").strip().lower()
        response.stream = _BoundedStream(cast("httpx.AsyncByteStream", response.stream), encoding)
        if not stream:
            try:
                await response.aread()
            finally:
                await response.aclose()
        return response

    async def _send_get(self, request: httpx.Request, **options: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own
        """Send a GET, and once more if a kept connection fails before the head of an answer."""
        steps: list[str] = []

        async def trace(step: str, _: object) -> None:
            steps.append(step)

        request.extensions = {**request.extensions, "trace": trace}
        try:
            return await super().send(request, **options)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            is_new = not steps or steps[0].startswith("connection.")  # httpcore's steps of opening a connection
            if is_new:
                raise
        return await self._single_use.send(request, **options)


class _BoundedStream(httpx.AsyncByteStream):
    """Body of an answer, unpacked."""

    def __init__(self, stream: httpx.AsyncByteStream, encoding: str) -> None:
        self._stream = stream
        self._encoding = encoding

    async def __aiter__(self) -> AsyncIterator[bytes]:
        unpacking = self._unpacking()
        received = 0
        async with aclosing(cast("AsyncGenerator[bytes]", aiter(self._stream))) as pieces:
            async for piece in pieces:
                received += len(piece)
                if received > MAX_ANSWER_BYTES:
                    raise AnswerTooLarge("too many bytes")
                yield piece if unpacking is None else _unpack(unpacking, piece)
        if unpacking and received:
            with _translate_unpacking_errors():
                unpacking.finish()

    def _unpacking(self) -> Gunzip | None:
        if self._encoding in {"gzip", "x-gzip"}:
            return Gunzip(MAX_ANSWER_BYTES)
        if self._encoding not in {"identity", ""}:
            raise httpx.DecodingError("only gzip was requested")
        return None

    async def aclose(self) -> None:
        await self._stream.aclose()


def _unpack(unpacking: Gunzip, piece: bytes) -> bytes:
    with _translate_unpacking_errors():
        return unpacking.feed(piece)


@contextmanager
def _translate_unpacking_errors() -> Iterator[None]:
    try:
        yield
    except UnpackedTooLarge:
        raise AnswerTooLarge("too many unpacked bytes") from None
    except ValueError:
        raise httpx.DecodingError("no gzip") from None


def http_client(transport: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncClient:
    """Return the client for all calls of one provider; the caller closes it.

    No cookies are kept, because the calls of all users share the client. Loopback is never reached through a proxy.
    """
    return BoundedClient(
        transport=transport,
        # created once for both clients, because this takes 35 ms
        verify=httpx.create_ssl_context() if transport is None else True,
        mounts=dict.fromkeys(("all://localhost", "all://127.0.0.1", "all://[::1]")),
        timeout=httpx.Timeout(60, connect=5),
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        headers={"accept": "application/json", "user-agent": "bg-ingest"},
    )
