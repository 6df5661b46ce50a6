"""HTTP client for token requests, keys of issuers and checks: limited answers, and a connection for each request."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, cast

import httpx

from bg_ingest.providers.bounded_body import BoundedBody

MAX_CONNECTIONS = 256

CONNECT_SECONDS, READ_SECONDS = 5, 60
"""Time-outs of a connect, and of the wait for the next bytes."""

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")
"""Hosts that are never reached through a proxy."""

HEADERS = {"accept": "application/json", "accept-encoding": "gzip", "user-agent": "bg-ingest"}


class BoundedClient(httpx.AsyncClient):
    """Client with a limit on the size of answers.

    No connection is kept. A server may close a kept one just as the next request is sent on it. That request may hold a
    single-use refresh token, which must not be sent twice.
    """

    async def send(self, request: httpx.Request, *, stream: bool = False, **options: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own
        request.headers["accept-encoding"] = HEADERS["accept-encoding"]  # Authlib's client sets its own
        response = await super().send(request, stream=True, **options)
        encoding = response.headers.pop("content-encoding", "identity")
        response.stream = _BoundedStream(cast("httpx.AsyncByteStream", response.stream), encoding)
        if not stream:
            try:
                await response.aread()
            finally:
                await response.aclose()
        return response


class _BoundedStream(httpx.AsyncByteStream):
    """Body of an answer, unpacked."""

    def __init__(self, stream: httpx.AsyncByteStream, encoding: str) -> None:
        self._stream = stream
        self._encoding = encoding

    async def __aiter__(self) -> AsyncIterator[bytes]:
        body = BoundedBody(self._encoding)
        async with aclosing(cast("AsyncGenerator[bytes]", aiter(self._stream))) as pieces:
            async for piece in pieces:
                yield body.feed(piece)
        body.finish()

    async def aclose(self) -> None:
        await self._stream.aclose()


def http_client(transport: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncClient:
    """Return the client for all calls except data reads; the caller closes it.

    No cookies are kept, because the calls of all users share the client.
    """
    return BoundedClient(
        transport=transport,
        limits=httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=0),
        mounts={f"all://{host}": None for host in LOOPBACK_HOSTS},
        timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        headers=HEADERS,
    )
