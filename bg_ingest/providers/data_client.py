"""HTTP client for data reads: GET requests on kept connections, by aiohttp.

A GET on a kept connection takes at most a third of the CPU of one by httpx; docs/decisions has the figures. A failure
raises an error of aiohttp, or ``httpx.DecodingError`` for an unreadable content.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, NamedTuple
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
from yarl import URL

from bg_ingest.providers.bounded_body import BoundedBody
from bg_ingest.providers.http import DataClient
from bg_ingest.providers.http_client import CONNECT_SECONDS, HEADERS, LOOPBACK_HOSTS, MAX_CONNECTIONS, READ_SECONDS

KEEP_ALIVE_SECONDS = 4.0
"""Time for which an idle connection is kept, below the shortest usual limit of servers (5 s: Node.js, Apache)."""

MAX_FIELD_BYTES = 65_536
"""Largest header field. aiohttp's own limit of 8 KB is less than some firewalls send."""


class Answer(NamedTuple):
    status_code: int
    headers: Mapping[str, str]
    content: bytes


class AiohttpClient:
    """Implements ``DataClient``.

    A server may close a kept connection just as the next request is sent on it. aiohttp then sends a GET once more, if
    the connection ended before the head of an answer. It does the same on a new connection.
    """

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._route = cache(_find_route)  # a provider has few addresses

    async def get(self, url: str, *, params: dict[str, str], headers: dict[str, str]) -> Answer:
        address, proxy = self._route(url)
        async with self._session.get(
            address, params=params, headers=headers, proxy=proxy, allow_redirects=False
        ) as response:
            body = BoundedBody(response.headers.get("content-encoding", "identity"))
            content = b"".join([body.feed(piece) async for piece in response.content.iter_any()])
            body.finish()
            return Answer(response.status, response.headers, content)


def _find_route(url: str) -> tuple[URL, str | None]:
    """Return the parsed address and its proxy; the environment's proxies are as httpx reads them."""
    address = URL(url)
    if address.host_subcomponent in LOOPBACK_HOSTS or proxy_bypass(f"{address.host}:{address.port}"):
        return address, None
    proxies = getproxies()
    return address, proxies.get(address.scheme) or proxies.get("all")


class _Connector(aiohttp.TCPConnector):
    """Closes a connection on which the server sent bytes without a request.

    aiohttp would take them for the answer to the next request, which may be of another user.
    """

    async def connect(self, *args: Any, **options: Any) -> aiohttp.connector.Connection:  # noqa: ANN401 - aiohttp's own
        connection = await super().connect(*args, **options)
        if connection.protocol is not None and connection.protocol.should_close:
            connection.close()
            raise aiohttp.ServerDisconnectedError  # as of a closed connection: aiohttp takes another one, once
        return connection


@asynccontextmanager
async def open_data_client() -> AsyncIterator[DataClient]:
    """Open the client for the data reads of all users, which therefore keeps no cookies."""
    tls = httpx.create_ssl_context()  # reads SSL_CERT_FILE and SSL_CERT_DIR
    tls.set_alpn_protocols(["http/1.1"])
    async with aiohttp.ClientSession(
        connector=_Connector(limit=MAX_CONNECTIONS, keepalive_timeout=KEEP_ALIVE_SECONDS, ssl=tls),
        # `connect` includes the wait for one of the connections
        timeout=aiohttp.ClientTimeout(connect=READ_SECONDS, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS),
        headers=HEADERS,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        max_line_size=MAX_FIELD_BYTES,
        max_field_size=MAX_FIELD_BYTES,
    ) as session:
        yield AiohttpClient(session)
