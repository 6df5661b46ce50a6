"""Standard Webhooks 1.0: whether a request was sent by who has one of our secrets, and when.

The specification's own library is not used: it asks the system's clock, reads the body as text, and one malformed
part spoils a whole list of signatures.
"""

import base64
import hmac
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NoReturn

import msgspec

TOLERANCE = timedelta(minutes=5)
"""How far the sender's clock may be from ours, either way."""

_PREFIX = "whsec_"
_VERSION = b"v1,"
_SECONDS = re.compile(r"[0-9]{1,11}")
_TO_STANDARD = str.maketrans("-_", "+/")


class Claim(msgspec.Struct, frozen=True):
    """What the three headers say, their bytes read as Latin-1; believed once the signature is found right."""

    webhook_id: str
    timestamp: str
    signatures: str

    @property
    def is_whole(self) -> bool:
        """Whether all three were sent."""
        return bool(self.webhook_id and self.timestamp and self.signatures)

    @property
    def sent_at(self) -> datetime | None:
        """When it was signed; None when the timestamp is no whole number of seconds."""
        if _SECONDS.fullmatch(self.timestamp) is None:
            return None
        return datetime.fromtimestamp(int(self.timestamp), UTC)


class Signatures:
    """Verifies by secrets in the form ``whsec_<base64>``: any of them may have signed, for rotation."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._keys = [_key(secret) for secret in secrets]

    def __reduce__(self) -> NoReturn:
        raise TypeError("signing secrets are not pickled")

    def vouch(self, claim: Claim, body: bytes) -> bool:
        """Tell whether one of our secrets has signed this claim and body; parts that are no signatures are ignored."""
        signed = b".".join((claim.webhook_id.encode("latin-1"), claim.timestamp.encode("latin-1"), body))
        right = [base64.b64encode(hmac.digest(key, signed, "sha256")) for key in self._keys]
        parts = claim.signatures.encode("latin-1").split(b" ")
        given = [part.removeprefix(_VERSION) for part in parts if part.startswith(_VERSION)]
        return any(hmac.compare_digest(one, other) for one in given for other in right)


def _key(secret: str) -> bytes:
    encoded = secret.removeprefix(_PREFIX).translate(_TO_STANDARD).rstrip("=")
    return base64.b64decode(encoded + "=" * (-len(encoded) % 4))
