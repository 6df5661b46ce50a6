"""Dexcom's answers as received: their statuses, and their content before translation.

Unknown fields are ignored and no field is an enum, because Dexcom adds words unannounced. No error text quotes an
answer, because answers hold tokens or health data.
"""

import json
from codecs import BOM_UTF8
from datetime import datetime
from typing import Annotated, Any, TypeAlias

import httpx
import msgspec

from bg_ingest.errors import (
    GrantRejected,
    ProviderForbidden,
    ProviderMisbehaved,
    ProviderThrottled,
    ProviderUnavailable,
)
from bg_ingest.providers.http import decode_json, parse_retry_after

Scalar: TypeAlias = str | int | float | bool | None
"""JSON values except lists and objects. Translation checks them, record by record."""

ProviderAccount: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)]
"""``userId``, 64 hexadecimal digits. It identifies one person to one client app."""

Token: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"\A[!-~]+\Z")]
"""Printable ASCII (RFC 6749, appendix A.12): anything else could not be sent back."""


class Egv(msgspec.Struct, rename="camel", kw_only=True):
    """An estimated glucose value."""

    record_id: Scalar = None
    system_time: Scalar = None
    display_time: Scalar = None
    transmitter_id: Scalar = None
    value: Scalar = None
    status: Scalar = None
    trend: Scalar = None
    trend_rate: Scalar = None
    unit: Scalar = None
    rate_unit: Scalar = None
    display_device: Scalar = None
    transmitter_generation: Scalar = None


class Envelope(msgspec.Struct, rename="camel", kw_only=True):
    """Page of egvs. Records stay raw: each is decoded alone, so that an unreadable one does not affect the others."""

    user_id: ProviderAccount
    records: list[msgspec.Raw]
    record_type: str | None = None


class Push(Envelope, kw_only=True):
    """Pushed page of egvs. It may lack records (as in the stream of partners)."""

    records: list[msgspec.Raw] = msgspec.field(default_factory=list)


class RangeBound(msgspec.Struct, rename="camel", kw_only=True):
    system_time: Scalar = None


class Extent(msgspec.Struct, kw_only=True):
    start: RangeBound | None = None
    end: RangeBound | None = None


class DataRange(msgspec.Struct, rename="camel", kw_only=True):
    """Time spans of an account's data by kind; only egvs are used."""

    user_id: ProviderAccount
    egvs: Extent | None = None


class TokenPair(msgspec.Struct, kw_only=True):
    """Answer of the token endpoint. Both tokens are required, because the old refresh token is already spent."""

    access_token: Token
    refresh_token: Token
    expires_in: Any = None
    """Seconds. Any type, because a pair must never be lost to an odd value here."""


class TokenRefusal(msgspec.Struct, kw_only=True):
    """Error answer of the token endpoint (RFC 6749, section 5.2)."""

    error: str


def read_body(response: httpx.Response, now: datetime) -> bytes:
    """Return the body of a 200. Any other status raises a ProviderError, whose class determines the next action."""
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

    GrantRejected only if the body gives the grant as the cause; ProviderForbidden if it gives our client.
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


def decode_envelope(content: bytes, shape: type[Envelope] = Envelope) -> Envelope:
    """Return a page of egvs; ProviderMisbehaved for anything else. A byte order mark is ignored (RFC 8259, 8.1)."""
    content = content.removeprefix(BOM_UTF8)
    try:
        page = decode_json(content, shape)
    except ProviderMisbehaved:
        page = decode_json(_without_constants(content), shape)
    if page.record_type not in {None, "egv"}:
        raise ProviderMisbehaved("The answer is of another record type.")
    return page


def _without_constants(content: bytes) -> bytes:
    """Replace ``NaN`` and ``Infinity`` by null. Some encoders write them. One makes a page invalid JSON.

    They do not become strings, because a transmitter or device would get that name.
    """
    if b"NaN" not in content and b"Infinity" not in content:
        return content
    try:
        return msgspec.json.encode(json.loads(content, parse_constant=lambda _: None))
    except (ValueError, OverflowError, RecursionError):
        return content
