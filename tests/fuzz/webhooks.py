"""Made-up webhooks, and the specification's verdict on each: accepted or refused.

Forged, truncated, replayed, re-encoded, in another case, signed several times, of the future and stale.
"""

import base64
import hashlib
import hmac
import re
from datetime import timedelta
from itertools import product
from typing import NamedTuple

from hypothesis import strategies as st

from bg_ingest.simulator import SimulatorOptions
from bg_ingest.simulator.data import user_id
from tests.harness.service import START
from tests.harness.webhook_sender import OTHER_SECRET, SECRET, envelope, record, records, signature

KEY = base64.b64decode(SECRET.removeprefix("whsec_"))
HOUR_AGO = START - timedelta(hours=1)
OPTIONS = SimulatorOptions()
ADA = user_id(OPTIONS.seed, OPTIONS.client_id, "SandboxUser1")

WHOLE = envelope(ADA, records(HOUR_AGO, 2))
GENUINE = (WHOLE, envelope(ADA, [record(HOUR_AGO, 200)]), envelope(ADA))
STRANGE = (envelope("another", records(HOUR_AGO, 2)), WHOLE[:-9], b"", b"{}", b"[]", b"\xff\xfe", b"[" * 500)

BODIES = st.sampled_from([*GENUINE * 4, *STRANGE]) | st.binary(max_size=60)
IDS = st.sampled_from([b"msg_1", b"msg_2", b"\xff.1", b"a.b", b""]) | st.binary(min_size=1, max_size=20)
AGES = st.sampled_from([0] * 14 + [299, -299, 302, -302, 86_400, -86_400, 10**12])
JUNK = st.binary(max_size=40) | st.sampled_from(
    [b"v1", b"v1,a,b", b"v1,", b"\xff", b"v1,\xe9", b"nan", b"-1", b"1e9", b"v2,"]
)


RARELY = st.sampled_from([False] * 5 + [True])


class Attempt(NamedTuple):
    """Request as sent; ``headers`` may hold a name twice, and in any case."""

    body: bytes
    headers: tuple[tuple[bytes, bytes], ...]


def recased(draw: st.DrawFn, part: bytes) -> bytes:
    """Write a valid signature in a form that must be refused: other case, other base64, other version, truncated."""
    how = draw(st.sampled_from([bytes.upper, bytes.lower, bytes.swapcase, urlsafe, unpadded, hexed, versioned, cut]))
    return how(part)


def urlsafe(part: bytes) -> bytes:
    return part.replace(b"+", b"-").replace(b"/", b"_")


def unpadded(part: bytes) -> bytes:
    return part.rstrip(b"=")


def hexed(part: bytes) -> bytes:
    return b"v1," + base64.b64decode(part[3:]).hex().encode()


def versioned(part: bytes) -> bytes:
    return b"v1a" + part[2:]


def cut(part: bytes) -> bytes:
    return part[:-5]


@st.composite
def attempts(draw: st.DrawFn) -> Attempt:
    """Return a webhook that is valid, nearly valid or invalid."""
    body, webhook_id = draw(BODIES), draw(IDS)
    timestamp = str(int(START.timestamp()) - draw(AGES)).encode()
    right = signature(body, webhook_id, timestamp, draw(st.sampled_from([SECRET] * 6 + [OTHER_SECRET])))
    if draw(RARELY):
        right = recased(draw, right)
    separator = draw(st.sampled_from([b" "] * 6 + [b"  ", b",", b"\t"]))
    parts = separator.join(draw(st.permutations([right, *draw(st.lists(JUNK, max_size=3))])))
    headers = {b"webhook-id": webhook_id, b"webhook-timestamp": timestamp, b"webhook-signature": parts}
    if draw(RARELY):
        headers[draw(st.sampled_from(sorted(headers)))] = draw(JUNK)
    sent = [(draw(st.sampled_from([name, name.title(), name.upper()])), value) for name, value in headers.items()]
    if draw(RARELY):
        sent.append((draw(st.sampled_from(sorted(headers))), draw(JUNK)))
    if body and draw(RARELY):
        body = altered(draw, body)
    return Attempt(body, tuple(sent))


def altered(draw: st.DrawFn, body: bytes) -> bytes:
    """Change the body after it was signed: a bit, its end, its encoding, its spaces."""
    index = draw(st.integers(0, len(body) - 1))
    return draw(
        st.sampled_from(
            [
                body[:index] + bytes([body[index] ^ 1]) + body[index + 1 :],
                body[:index],
                body + b" ",
                body.decode("latin-1").encode("utf-16"),
                body.replace(b" ", b""),
                b"\xef\xbb\xbf" + body,
            ]
        )
    )


def is_right(attempt: Attempt) -> bool | None:
    """Return True if the specification accepts the webhook; None if it leaves that open, as for a repeated header."""
    names = [name.lower() for name, _ in attempt.headers]
    if len(set(names)) < len(names):
        return None
    return may_be_right(attempt)


def may_be_right(attempt: Attempt) -> bool:
    """Return True if the webhook is valid with any choice among the values of repeated headers."""
    found: dict[bytes, list[bytes]] = {b"webhook-id": [], b"webhook-timestamp": [], b"webhook-signature": []}
    for name, value in attempt.headers:
        found[name.lower()].append(value)
    return any(_right(attempt.body, *chosen) for chosen in product(*found.values()))


def _right(body: bytes, webhook_id: bytes, timestamp: bytes, signatures: bytes) -> bool:
    if not webhook_id or re.fullmatch(rb"[0-9]{1,11}", timestamp) is None:
        return False
    if abs(int(timestamp) - START.timestamp()) > 300:
        return False
    right = base64.b64encode(hmac.new(KEY, b".".join((webhook_id, timestamp, body)), hashlib.sha256).digest())
    return b"v1," + right in signatures.split(b" ")
