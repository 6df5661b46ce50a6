"""Data reads, transport errors of provider calls, the provider's clock, and the decoding of answers.

Each provider translates status codes itself.

No error text quotes a request or an answer, because both hold tokens or health data. Causes are not chained, because
the errors of the HTTP clients carry the request.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Protocol, TypeVar

import aiohttp
import anyio
import httpx
import msgspec

from bg_ingest.errors import ProviderMisbehaved, ProviderUnavailable
from bg_ingest.ports import Clock

MAX_WAIT = timedelta(hours=1)
"""Longest wait that a provider can impose; then it is called again."""

MAX_CLOCK_DIFFERENCE = timedelta(days=1)
"""Largest difference of clocks that a `Date` header can show; a greater one is an error of the header."""

_DATE_STEP = timedelta(seconds=1)
"""Resolution of a `Date` header (RFC 9110, 5.6.7)."""

Shape = TypeVar("Shape")


class HttpAnswer(Protocol):
    """Complete answer, as of ``httpx.Response``. Names of headers are case-insensitive."""

    @property
    def status_code(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def content(self) -> bytes: ...


class DataClient(Protocol):
    """Client for data reads, as ``httpx.AsyncClient``: ``open_data_client()``, in tests ``http_client(transport)``.

    An answer has a limited size. No redirect is followed. The errors are those of ``translate_transport_errors``.
    """

    async def get(self, url: str, *, params: dict[str, str], headers: dict[str, str]) -> HttpAnswer: ...


@contextmanager
def translate_transport_errors(timeout: timedelta) -> Iterator[None]:
    """Raise ProviderUnavailable if no complete answer arrives in time, ProviderMisbehaved if one is unreadable."""
    try:
        with anyio.fail_after(timeout.total_seconds()):
            yield
    except (httpx.TransportError, aiohttp.ClientError) as error:
        raise ProviderUnavailable(f"No answer: {type(error).__name__}.") from None
    except TimeoutError:  # after aiohttp's errors, of which some are TimeoutErrors too
        raise ProviderUnavailable(f"No answer within {timeout.total_seconds():g} seconds.") from None
    except httpx.HTTPError as error:
        raise ProviderMisbehaved(f"The answer cannot be read: {type(error).__name__}.") from None


class ProviderClock:
    """Present time of a provider in each region: our clock, corrected by the difference seen in `Date` headers.

    Each answer gives a lower and an upper bound of the difference. A later answer narrows the known bounds. If the
    answer contradicts them, a clock was set, and the answer's bounds replace the known ones. If the difference may be
    zero, it counts as zero. Otherwise the lower bound is used, so that a window does not end in the provider's future.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._bounds: dict[str, tuple[timedelta, timedelta]] = {}

    def now(self, region: str) -> datetime:
        low, high = self._bounds.get(region, (timedelta(0), timedelta(0)))
        return self._clock.now() + (timedelta(0) if low <= timedelta(0) <= high else low)

    def observe(self, region: str, headers: Mapping[str, str], sent: datetime) -> None:
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


def parse_retry_after(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """Return the wait of a Retry-After header, which holds seconds or a date; at least zero and at most one hour."""
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


def decode_json(content: bytes, shape: type[Shape]) -> Shape:
    """Decode JSON into a type. ProviderMisbehaved: the content is not JSON of this type."""
    try:
        return msgspec.json.decode(content, type=shape)
    except (ValueError, RecursionError):
        raise ProviderMisbehaved(f"The answer is no {shape.__name__}.") from None
