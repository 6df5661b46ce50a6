"""Dexcom's answers as received. Unknown fields are ignored and no field is an enum: Dexcom adds words unannounced."""

import json
from codecs import BOM_UTF8
from typing import Annotated, Any, TypeAlias

import msgspec

from bg_ingest.errors import ProviderMisbehaved
from bg_ingest.providers.http import decode_json

Scalar: TypeAlias = str | int | float | bool | None
"""JSON values except lists and objects. Translation checks them, record by record."""

ProviderAccount: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)]
"""``userId``, 64 hexadecimal digits: one person, for one client app."""

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
    """Page of egvs. Records stay raw: each is decoded alone, so that one cannot spoil the others."""

    user_id: ProviderAccount
    records: list[msgspec.Raw]
    record_type: str | None = None


class Push(Envelope, kw_only=True):
    """Pushed page of egvs, also without records (as in the stream of partners)."""

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
    """Answer of the token endpoint. Both tokens are required: Dexcom has spent the old refresh token."""

    access_token: Token
    refresh_token: Token
    expires_in: Any = None
    """Seconds. Any type, because a pair must never be lost to an odd value here."""


class TokenRefusal(msgspec.Struct, kw_only=True):
    """Error answer of the token endpoint (RFC 6749, section 5.2)."""

    error: str


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
    """Replace ``NaN`` and ``Infinity`` by null. They are not JSON, but some encoders write them, and one costs a page.

    They do not become strings, because a transmitter or device would get that name.
    """
    if b"NaN" not in content and b"Infinity" not in content:
        return content
    try:
        return msgspec.json.encode(json.loads(content, parse_constant=lambda _: None))
    except (ValueError, OverflowError, RecursionError):
        return content
