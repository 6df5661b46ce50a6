"""AWS Signature Version 4 of DynamoDB's requests: all are a POST of JSON, only target, time and body differ.

By hand, because botocore's signer of whatever request takes longer than sending one; a test holds it to botocore's.
Source: "Create a signed AWS API request", IAM user guide.
"""

import hmac
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple

from yarl import URL

CONTENT_TYPE = "application/x-amz-json-1.0"


class Credentials(NamedTuple):
    """As they hold now; those of a role come with a token, expire and are renewed."""

    access_key: str
    secret_key: str
    token: str | None


class Signer:
    """Signs for one endpoint in one region."""

    def __init__(self, url: URL, region: str) -> None:
        self._host = url.host_port_subcomponent or ""
        self._path = url.raw_path
        self._region = region
        self._derived: tuple[str, str, bytes] = ("", "", b"")

    def headers(self, credentials: Credentials, target: str, body: bytes, at: datetime) -> dict[str, str]:
        """Return all headers that count; ``target`` names the operation, the time is UTC."""
        stamp = f"{at:%Y%m%dT%H%M%SZ}"
        signed = {"content-type": CONTENT_TYPE, "host": self._host, "x-amz-date": stamp}
        if credentials.token:
            signed["x-amz-security-token"] = credentials.token
        signed["x-amz-target"] = target
        names = ";".join(signed)
        lines = "".join(f"{name}:{value}\n" for name, value in signed.items())
        request = f"POST\n{self._path}\n\n{lines}\n{names}\n{sha256(body).hexdigest()}"
        scope = f"{stamp[:8]}/{self._region}/dynamodb/aws4_request"
        said = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{sha256(request.encode()).hexdigest()}"
        signature = hmac.digest(self._key(credentials.secret_key, stamp[:8]), said.encode(), "sha256").hex()
        who = f"Credential={credentials.access_key}/{scope}"
        return signed | {"authorization": f"AWS4-HMAC-SHA256 {who}, SignedHeaders={names}, Signature={signature}"}

    def _key(self, secret: str, day: str) -> bytes:
        """Derive the key of a day; the last one is kept."""
        if self._derived[:2] != (secret, day):
            key = f"AWS4{secret}".encode()
            for part in (day, self._region, "dynamodb", "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._derived = (secret, day, key)
        return self._derived[2]
