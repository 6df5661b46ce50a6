"""Sender of webhooks, written from the specification. It shares no code with the verifier."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER_SECRET = "whsec_" + base64.b64encode(bytes(range(32, 64))).decode()


def signature(body: bytes, webhook_id: str | bytes, timestamp: str | bytes, secret: str = SECRET) -> bytes:
    """Return one part of a list of signatures."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.new(key, digestmod=hashlib.sha256)
    for part in (to_bytes(webhook_id), b".", to_bytes(timestamp), b".", body):
        mac.update(part)
    return b"v1," + base64.b64encode(mac.digest())


def signed(
    body: bytes, webhook_id: str | bytes, at: datetime, secrets: Sequence[str] = (SECRET,)
) -> dict[str, str | bytes]:
    """Return the headers of a body signed at an instant."""
    timestamp = str(int(at.timestamp()))
    parts = [signature(body, webhook_id, timestamp, secret) for secret in secrets]
    return {"webhook-id": webhook_id, "webhook-timestamp": timestamp, "webhook-signature": b" ".join(parts)}


def raw(headers: Mapping[str, str | bytes]) -> list[tuple[bytes, bytes]]:
    """Return headers in bytes, including those that no client library would send."""
    return [(name.encode(), to_bytes(value)) for name, value in headers.items()]


def to_bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def record(at: datetime, value: Any = 110, **changed: Any) -> dict[str, Any]:
    """Return a record in Dexcom's form."""
    known = {
        "recordId": f"{int(at.timestamp())}",
        "systemTime": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "displayTime": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "transmitterId": "ab" * 32,
        "transmitterGeneration": "g7",
        "displayDevice": "iOS",
        "value": value,
        "unit": "mg/dL",
        "rateUnit": "mg/dL/min",
        "trend": "flat",
        "trendRate": 0.1,
    }
    return known | changed


def records(start: datetime, count: int, value: int = 110) -> list[dict[str, Any]]:
    """Return records at distances of five minutes."""
    return [record(start + number * timedelta(minutes=5), value + number) for number in range(count)]


def envelope(provider_account: str | None, of: Sequence[Any] | None = ()) -> bytes:
    """Return a pushed page; without ``records`` if ``of`` is None."""
    page: dict[str, Any] = {"recordType": "egv", "recordVersion": "3.0", "userId": provider_account}
    return json.dumps(page if of is None else page | {"records": list(of)}).encode()
