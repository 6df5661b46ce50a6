"""HTTP client of all providers, its transport errors, and the decoding of answers. Each provider maps the statuses.

No error text quotes a request or an answer, because both hold tokens or health data. Causes are not chained, because
httpx's own errors carry the request.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, TypeVar, cast

import anyio
import httpx
import msgspec

from bg_ingest.domain.unpacking import Gunzip, UnpackedTooLarge
from bg_ingest.errors import ProviderMisbehaved, ProviderUnavailable

MAX_WAIT = timedelta(hours=1)
"""Longest wait that a provider can impose; then it is called again."""

MAX_ANSWER_BYTES = 8 * 1_048_576
"""Largest answer, both as sent and unpacked: more than twice the largest page, 30 days of a 5-minute sensor."""

Answer = TypeVar("Answer")


class AnswerTooLarge(httpx.DecodingError):
    """The answer has more than ``MAX_ANSWER_BYTES``. The rest of it is not received."""


class BoundedClient(httpx.AsyncClient):
    """Client with limited answers.

    httpx itself unpacks each received piece as a whole: 64 KB can become 64 MB, before any caller can count them.
    """

    async def send(self, request: httpx.Request, *, stream: bool = False, **options: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own
        request.headers["accept-encoding"] = "gzip"
        response = await super().send(request, stream=True, **options)
        encoding = response.headers.pop("content-encoding", "identity").strip().lower()
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

    Each connection serves one call. A server may close an idle connection just as the next call is sent on it. If the
    call holds a single-use refresh token, the grant is lost. (Tidepool had such EOFs at random and does the same.)
    No cookies are kept, because the calls of all users share the client. Loopback is never reached through a proxy.
    """
    return BoundedClient(
        transport=transport,
        mounts=dict.fromkeys(("all://localhost", "all://127.0.0.1", "all://[::1]")),
        limits=httpx.Limits(max_connections=256, max_keepalive_connections=0),
        timeout=httpx.Timeout(60, connect=5),
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        headers={"accept": "application/json", "user-agent": "bg-ingest"},
    )


@contextmanager
def translate_transport_errors(timeout: timedelta) -> Iterator[None]:
    """Raise ProviderUnavailable without a complete answer in time, ProviderMisbehaved for an unreadable one."""
    try:
        with anyio.fail_after(timeout.total_seconds()):
            yield
    except TimeoutError:
        raise ProviderUnavailable(f"No answer within {timeout.total_seconds():g} seconds.") from None
    except httpx.TransportError as error:
        raise ProviderUnavailable(f"No answer: {type(error).__name__}.") from None
    except httpx.HTTPError as error:
        raise ProviderMisbehaved(f"The answer cannot be read: {type(error).__name__}.") from None


def parse_retry_after(headers: httpx.Headers, now: datetime) -> timedelta | None:
    """Return the wait of a Retry-After header, which holds seconds or a date; limited to zero up to an hour."""
    text = headers.get("retry-after", "").strip()
    try:
        wait = min(int(text), MAX_WAIT.seconds) if text.isdecimal() else _seconds_until(text, now)
    except ValueError:
        return None
    return timedelta(seconds=max(0, min(wait, MAX_WAIT.seconds)))


def _seconds_until(text: str, now: datetime) -> float:
    at = parsedate_to_datetime(text)
    return ((at if at.tzinfo else at.replace(tzinfo=UTC)) - now).total_seconds()


def decode_json(content: bytes, shape: type[Answer]) -> Answer:
    """Decode JSON into a type. ProviderMisbehaved: the content is not JSON of this type."""
    try:
        return msgspec.json.decode(content, type=shape)
    except (ValueError, RecursionError):
        raise ProviderMisbehaved(f"The answer is no {shape.__name__}.") from None
