"""Dexcom's answers as received: their statuses, and their content before translation.

Unknown fields are ignored and no field is an enum, because Dexcom adds words unannounced. No error text quotes an
answer, because answers hold tokens or health data.
"""

import json
from codecs import BOM_UTF8
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec

from bg_ingest.errors import (
    GrantRejected,
    ProviderBlocked,
    ProviderError,
    ProviderForbidden,
    ProviderMisbehaved,
    ProviderThrottled,
    ProviderUnavailable,
)
from bg_ingest.providers.http import HttpAnswer, parse_retry_after
from bg_ingest.providers.json_records import MAX_RECORDS, Unsplittable, split_records

Scalar: TypeAlias = str | int | float | bool | None
"""JSON values except lists and objects. Translation checks them, record by record."""

ProviderAccount: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
"""``userId``, 64 hexadecimal digits. It identifies one person to one client app."""

Token: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"\A[!-~]+\Z", max_length=16_384)]
"""Printable ASCII (RFC 6749, appendix A.12): other text could not be sent back. A longer token fits into no header."""


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
    """Pushed page of egvs. ``records`` may be absent, as in Dexcom's data stream for partners."""

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


def read_body(answer: HttpAnswer, now: datetime) -> bytes:
    """Return the body of a 200. Any other status raises a ProviderError, whose class determines the next action."""
    status = answer.status_code
    if status == 200:
        return answer.content
    if status == 401:
        raise GrantRejected
    if status == 403:
        raise _forbidden(answer.content)
    if status == 429:
        raise ProviderThrottled(parse_retry_after(answer.headers, now))
    if status >= 500 or status == 408:
        raise ProviderUnavailable(f"It answered with status {status}.")
    raise ProviderMisbehaved(f"It answered with status {status}.")


def _forbidden(content: bytes) -> ProviderError:
    """Return the error of a 403. A refusal by Dexcom is JSON. Any other page comes from a firewall or proxy."""
    with suppress(ValueError, RecursionError):
        msgspec.json.decode(content, type=dict[str, msgspec.Raw])
        return ProviderForbidden()
    return ProviderBlocked("It answered with status 403, but not in JSON: a firewall or proxy on the way.")


def read_token_body(answer: HttpAnswer, now: datetime) -> bytes:
    """Return the body of a 200 of the token endpoint.

    GrantRejected only if the body names the grant as the cause; ProviderForbidden if it names our client.
    """
    status = answer.status_code
    if 400 <= status < 500 and status not in {408, 429}:
        error = _error_code(answer.content)
        if error == "invalid_grant" and status in {400, 401}:
            raise GrantRejected
        if error in {"invalid_client", "unauthorized_client"}:
            raise ProviderForbidden
        raise ProviderMisbehaved(f"The token endpoint answered with status {status}.")
    return read_body(answer, now)


def _error_code(content: bytes) -> str | None:
    try:
        return msgspec.json.decode(content, type=TokenRefusal).error
    except (ValueError, RecursionError):
        return None


def decode_envelope(content: bytes, shape: type[Envelope] = Envelope) -> Envelope:
    """Return a page of egvs; ProviderMisbehaved for anything else. A byte order mark is ignored (RFC 8259, 8.1)."""
    content = content.removeprefix(BOM_UTF8)
    page = _decode_as_whole(content, shape) or _decode_by_record(content, shape)
    if page.record_type not in {None, "egv"}:
        raise ProviderMisbehaved("The answer is of another record type.")
    return page


MAX_COMMAS = 400_000
"""Largest number of commas in a page that is decoded as a whole; 8 MB of records have fewer. It bounds the number of
decoded values, and so the memory."""


def _decode_as_whole(content: bytes, shape: type[Envelope]) -> Envelope | None:
    # of repeated fields the decoder takes the last, and so would lose the records of the first
    if content.count(b",") > MAX_COMMAS or content.count(b'"records"') > 1:
        return None
    try:
        page = msgspec.json.decode(content, type=shape)
    except (ValueError, RecursionError):
        return None
    return page if len(page.records) <= MAX_RECORDS else None


def _decode_by_record(content: bytes, shape: type[Envelope]) -> Envelope:
    """Decode a page with records that are not JSON. Translation refuses only these records."""
    try:
        rest, records = split_records(content, "records")
    except Unsplittable:
        rest, records = content, []
    page = decode_leniently(rest, shape)
    try:
        page.user_id.encode()
    except UnicodeEncodeError:
        raise ProviderMisbehaved("The answer names no account.") from None
    raw_records = [msgspec.Raw(record) for record in records]
    return shape(user_id=page.user_id, records=raw_records, record_type=page.record_type)


_DECISIVE_FIELDS = (b'"systemTime"', b'"value"', b'"unit"', b'"transmitterId"', b'"displayDevice"')
_decode_egv = msgspec.json.Decoder(Egv).decode


def decode_record(content: bytes) -> Egv | None:
    """Decode a record; None if it is not JSON. ``NaN`` and ``Infinity``, which some encoders write, are null.

    They do not become strings, because "NaN" would then be taken for the id of a transmitter or the name of a device.
    """
    try:
        return _decode_egv(content)
    except (ValueError, RecursionError):
        return _decode_with_constants(content)


def _decode_with_constants(content: bytes) -> Egv | None:
    if len(content) <= MAX_LENIENT_BYTES and (b"NaN" in content or b"Infinity" in content):
        with suppress(ValueError, OverflowError, RecursionError):
            return _decode_egv(msgspec.json.encode(json.loads(content, parse_constant=lambda _: None)))
    return None


def contradicts_itself(content: bytes) -> bool:
    """Return True if a field of the record has two values, or if this cannot be checked. Nested fields are ignored."""
    for field in _DECISIVE_FIELDS:
        if content.count(field) > 1:
            return _has_two_values(content)
    return False


def _has_two_values(content: bytes) -> bool:
    if len(content) > MAX_LENIENT_BYTES:
        return True
    try:
        fields = json.loads(content, object_pairs_hook=list)
        values = {(name, repr(value)) for name, value in fields}  # repr recurses deeper than loads
    except (ValueError, RecursionError):
        return True
    return len(values) > len({name for name, _ in fields})


def decode_token_pair(content: bytes) -> TokenPair:
    """Return the tokens; ProviderMisbehaved without them. Broken text in another field does not lose them."""
    return decode_leniently(content, TokenPair)


MAX_LENIENT_BYTES = 65_536
"""Bytes up to which JSON is decoded to Python objects, which take up to 30 times as much memory."""

Shape = TypeVar("Shape")


def decode_leniently(content: bytes, shape: type[Shape]) -> Shape:
    """Decode JSON that may contain ``NaN``, ``Infinity``, lone surrogates and bytes that are not UTF-8.

    The first two are decoded as null, and bytes that are not UTF-8 as surrogates.
    """
    if len(content) <= MAX_LENIENT_BYTES:
        with suppress(ValueError, RecursionError):
            text = content.decode(errors="surrogateescape")
            return msgspec.convert(json.loads(text, parse_constant=lambda _: None, strict=False), shape)
    raise ProviderMisbehaved(f"The answer is no {shape.__name__}.")
