"""Meaning of the statuses of Dexcom's API. No text quotes an answer: it holds tokens or health data."""

from datetime import datetime

import httpx
import msgspec

from bg_ingest.errors import (
    GrantRejected,
    ProviderForbidden,
    ProviderMisbehaved,
    ProviderThrottled,
    ProviderUnavailable,
)
from bg_ingest.providers.dexcom.wire import TokenRefusal
from bg_ingest.providers.http import parse_retry_after


def read_body(response: httpx.Response, now: datetime) -> bytes:
    """Return the body of a 200. Any other status raises the ProviderError named after the next action."""
    status = response.status_code
    if status == 200:
        return response.content
    if status == 401:
        raise GrantRejected
    if status == 403:
        raise ProviderForbidden
    if status == 429:
        raise ProviderThrottled(parse_retry_after(response.headers, now))
    if status >= 500 or status == 408:
        raise ProviderUnavailable(f"It answered with status {status}.")
    raise ProviderMisbehaved(f"It answered with status {status}.")


def read_token_body(response: httpx.Response, now: datetime) -> bytes:
    """Return the body of a 200 of the token endpoint.

    GrantRejected only for a body that blames the grant, ProviderForbidden for one that blames our client.
    """
    status = response.status_code
    if 400 <= status < 500 and status not in {408, 429}:
        error = _error_code(response.content)
        if error == "invalid_grant" and status in {400, 401}:
            raise GrantRejected
        if error in {"invalid_client", "unauthorized_client"}:
            raise ProviderForbidden
        raise ProviderMisbehaved(f"The token endpoint answered with status {status}.")
    return read_body(response, now)


def _error_code(content: bytes) -> str | None:
    try:
        return msgspec.json.decode(content, type=TokenRefusal).error
    except (ValueError, RecursionError):
        return None
