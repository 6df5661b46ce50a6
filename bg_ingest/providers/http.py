"""HTTP client of all providers, its transport errors, and the decoding of answers. Statuses belong to each provider.

No text quotes a request or an answer: both hold tokens or health data. For the same reason causes are not chained:
the library's own errors carry the request.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TypeVar

import anyio
import httpx
import msgspec

from bg_ingest.errors import ProviderMisbehaved, ProviderUnavailable

MAX_WAIT = timedelta(hours=1)
"""Longest wait that a provider can impose; then it is called again."""

Answer = TypeVar("Answer")


def http_client(transport: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncClient:
    """Return the client for all calls of one provider; the caller closes it.

    Each connection serves one call. A server may close an idle connection just as the next call is sent on it, and
    with a single-use refresh token that is a lost grant (Tidepool closes each one after such EOFs at random).
    No cookies are kept, because the calls of all users share the client. Loopback is never reached through a proxy.
    """
    return httpx.AsyncClient(
        transport=transport,
        mounts=dict.fromkeys(("all://localhost", "all://127.0.0.1", "all://[::1]")),
        limits=httpx.Limits(max_connections=256, max_keepalive_connections=0),
        timeout=httpx.Timeout(60, connect=5),
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        headers={"accept": "application/json", "user-agent": "bg-ingest"},
    )


@contextmanager
def translate_transport_errors(timeout: timedelta) -> Iterator[None]:
    """Raise ProviderUnavailable for a call without a complete answer in time."""
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
    """Return the wait of a Retry-After header, in seconds or until a date: between zero and an hour."""
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
    """Return JSON decoded into a type; ProviderMisbehaved for anything else."""
    try:
        return msgspec.json.decode(content, type=shape)
    except (ValueError, RecursionError):
        raise ProviderMisbehaved(f"The answer is no {shape.__name__}.") from None
