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
from bg_ingest.ports import Clock

MAX_WAIT = timedelta(hours=1)
"""Longest wait that a provider can impose; then it is called again."""

MAX_ANSWER_BYTES = 8 * 1_048_576
"""Largest answer, both as sent and unpacked: more than twice the largest page, 30 days of a 5-minute sensor."""

MAX_CLOCK_DIFFERENCE = timedelta(days=1)
"""Largest difference of clocks that a `Date` header can show; a greater one is an error of the header."""

_DATE_STEP = timedelta(seconds=1)
"""Resolution of a `Date` header (RFC 9110, 5.6.7)."""

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


class ProviderClock:
    """Present of a provider in each region: our clock, corrected by the difference seen in `Date` headers.

    Each answer bounds the difference. The bounds of later answers narrow those of earlier ones, and replace them if
    they contradict them, because a clock was set. A difference that may be zero counts as zero, else the lower bound
    counts, so that a window does not end in the future of the provider.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._bounds: dict[str, tuple[timedelta, timedelta]] = {}

    def now(self, region: str) -> datetime:
        low, high = self._bounds.get(region, (timedelta(0), timedelta(0)))
        return self._clock.now() + (timedelta(0) if low <= timedelta(0) <= high else low)

    def observe(self, region: str, headers: httpx.Headers, sent: datetime) -> None:
        """Learn from an answer to a request that was sent at ``sent`` by our clock; answers of caches are ignored."""
        received = self._clock.now()
        date = _parse_date(headers.get("date", ""))
        if date is None or "age" in headers or abs(date - received) > MAX_CLOCK_DIFFERENCE:
            return
        low, high = date - received, date + _DATE_STEP - sent
        known_low, known_high = self._bounds.get(region, (low, high))
        if low <= known_high and known_low <= high:
            low, high = max(low, known_low), min(high, known_high)
        self._bounds[region] = low, high


def parse_retry_after(headers: httpx.Headers, now: datetime) -> timedelta | None:
    """Return the wait of a Retry-After header, which holds seconds or a date; limited to zero up to an hour."""
    text = headers.get("retry-after", "").strip()
    try:
        wait = float(min(int(text), MAX_WAIT.seconds)) if text.isdecimal() else _seconds_until(text, now)
    except ValueError:
        return None
    return None if wait is None else timedelta(seconds=max(0, min(wait, MAX_WAIT.seconds)))


def _seconds_until(text: str, now: datetime) -> float | None:
    at = _parse_date(text)
    return None if at is None else (at - now).total_seconds()


def _parse_date(text: str) -> datetime | None:
    """Return the instant of an HTTP date; None if it is unreadable."""
    try:
        at = parsedate_to_datetime(text)
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError, TypeError):
        return None


def decode_json(content: bytes, shape: type[Answer]) -> Answer:
    """Decode JSON into a type. ProviderMisbehaved: the content is not JSON of this type."""
    try:
        return msgspec.json.decode(content, type=shape)
    except (ValueError, RecursionError):
        raise ProviderMisbehaved(f"The answer is no {shape.__name__}.") from None
