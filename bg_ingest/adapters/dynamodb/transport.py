"""AWS Signature Version 4 of DynamoDB's requests: all are a POST of JSON, only target, time and body differ.

By hand, because botocore's signer of whatever request takes longer than sending one; a test holds it to botocore's.
Source: "Create a signed AWS API request", IAM user guide.
"""

import hmac
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple, Protocol, TypeAlias
from urllib.request import getproxies, proxy_bypass

import aioboto3
import aiohttp
import anyio
import msgspec
from aiobotocore.config import AioConfig
from botocore.exceptions import NoCredentialsError
from yarl import URL

from bg_ingest.adapters.clock import SystemClock

CONTENT_TYPE = "application/x-amz-json-1.0"


class AwsKeys(NamedTuple):
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

    def headers(self, keys: AwsKeys, target: str, body: bytes, at: datetime) -> dict[str, str]:
        """Return all headers that count; ``target`` names the operation, the time is UTC."""
        stamp = f"{at:%Y%m%dT%H%M%SZ}"
        signed = {"content-type": CONTENT_TYPE, "host": self._host, "x-amz-date": stamp}
        if keys.token:
            signed["x-amz-security-token"] = keys.token
        signed["x-amz-target"] = target
        names = ";".join(signed)
        lines = "".join(f"{name}:{value}\n" for name, value in signed.items())
        request = f"POST\n{self._path}\n\n{lines}\n{names}\n{sha256(body).hexdigest()}"
        scope = f"{stamp[:8]}/{self._region}/dynamodb/aws4_request"
        string_to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{sha256(request.encode()).hexdigest()}"
        signature = hmac.digest(self._signing_key(keys.secret_key, stamp[:8]), string_to_sign.encode(), "sha256").hex()
        credential = f"Credential={keys.access_key}/{scope}"
        return signed | {
            "authorization": f"AWS4-HMAC-SHA256 {credential}, SignedHeaders={names}, Signature={signature}"
        }

    def _signing_key(self, secret: str, day: str) -> bytes:
        """Derive the key of a day; the last one is kept."""
        if self._derived[:2] != (secret, day):
            key = f"AWS4{secret}".encode()
            for part in (day, self._region, "dynamodb", "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._derived = (secret, day, key)
        return self._derived[2]


Answer: TypeAlias = dict[str, Any]
"""As it came: numbers are texts, bytes are base64."""

CONNECT_TIMEOUT, READ_TIMEOUT, TOTAL_TIMEOUT = 1.0, 3.0, 10.0
"""Seconds, of each try: until the server takes the connection, until its next bytes come, altogether."""

MAX_TRIES, FIRST_WAIT_SECONDS = 3, 0.1
"""What passes is tried again, after a wait between nothing and so many seconds, the second time twice that."""

RETRYABLE_CODES = {
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ThrottlingException",
    "TransactionInProgressException",
}

RETRYABLE_STATUSES = {500, 502, 503, 504}

MAX_CONNECTIONS = 64

_encode = msgspec.json.Encoder().encode

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class DynamoError(Exception):
    """The server said no, by a code of DynamoDB's; ``answer`` may say more."""

    def __init__(self, status: int, code: str, answer: Mapping[str, Any], tries: int) -> None:
        super().__init__(code)
        self.is_retryable = status in RETRYABLE_STATUSES or code in RETRYABLE_CODES
        self.code = code
        self.answer = answer
        self.tries = tries
        """The last one included: of an earlier one nobody knows whether it had an effect."""


class Transport(Protocol):
    """What a table is asked through."""

    async def call(self, operation: str, **request: object) -> Answer:
        """Ask by DynamoDB's names; Refused, or what aiohttp and botocore raise when there is no answer."""


EMULATOR_KEYS = AwsKeys("anybody", "anybody", None)
"""For emulators, which want a signature and do not look at it."""


class DirectTransport:
    """A Client. ``credentials`` are botocore's, which renews them; without any an emulator gets invented ones."""

    def __init__(self, http: aiohttp.ClientSession, url: URL, region: str, credentials: Any) -> None:  # noqa: ANN401 - botocore has no types
        self._http = http
        self._url = url
        self._signer = Signer(url, region)
        self._credentials = credentials
        self._clock = SystemClock()

    async def call(self, operation: str, **request: object) -> Answer:
        body, target = _encode(request), f"DynamoDB_20120810.{operation}"
        for tries in range(1, MAX_TRIES):
            try:
                return await self._send(target, body, tries)
            except DynamoError as refused:
                if not refused.is_retryable:
                    raise
            except (aiohttp.ClientError, OSError):  # no answer, or none in time
                pass
            await anyio.sleep(random.uniform(0, FIRST_WAIT_SECONDS * 2 ** (tries - 1)))
        return await self._send(target, body, MAX_TRIES)

    async def _send(self, target: str, body: bytes, tries: int) -> Answer:
        headers = self._signer.headers(await self._current_keys(), target, body, self._clock.now())
        async with self._http.post(self._url, data=body, headers=headers, allow_redirects=False) as answered:
            content = await answered.read()
        if answered.status == 200:
            return _decode(content)
        raise _decode_error(answered.status, content, tries)

    async def _current_keys(self) -> AwsKeys:
        if self._credentials is not None:
            now = await self._credentials.get_frozen_credentials()
            return AwsKeys(now.access_key, now.secret_key, now.token)
        if self._url.scheme == "http":
            return EMULATOR_KEYS
        raise NoCredentialsError


def _decode_error(status: int, content: bytes, tries: int) -> DynamoError:
    try:
        answer = _decode(content)
    except msgspec.DecodeError:  # whatever stands in front of it
        answer = {}
    code = str(answer.get("__type", f"HTTP {status}")).rpartition("#")[2]
    return DynamoError(status, code, answer, tries)


@asynccontextmanager
async def open_transport(
    endpoint: str | None, region: str | None, session: aioboto3.Session
) -> AsyncIterator[Transport]:
    """Open a client; endpoint, region and credentials are looked for as AWS's tools do where they are not given."""
    url, region = await resolve_endpoint(endpoint, region, session)
    bypassed = proxy_bypass(url.host or "")
    proxy = None if bypassed else getproxies().get(url.scheme)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS, keepalive_timeout=12),
        timeout=aiohttp.ClientTimeout(TOTAL_TIMEOUT, sock_connect=CONNECT_TIMEOUT, sock_read=READ_TIMEOUT),
        headers={"User-Agent": "bg-ingest"},
        skip_auto_headers=("Accept", "Accept-Encoding"),
        cookie_jar=aiohttp.DummyCookieJar(),
        proxy=proxy,
    ) as http:
        yield DirectTransport(http, url, region, await session.get_credentials())


async def resolve_endpoint(endpoint: str | None, region: str | None, session: aioboto3.Session) -> tuple[URL, str]:
    """Ask the AWS library, which knows its regions, their names for DynamoDB and all that may be configured."""
    async with session.client("dynamodb", region_name=region, endpoint_url=endpoint, config=AioConfig()) as found:
        return URL(found.meta.endpoint_url), str(found.meta.region_name)


Consumed: TypeAlias = Callable[[str, float], None]
"""Told a kind, read or write, and so many units."""

READ_OPERATIONS = {"GetItem", "BatchGetItem", "Query", "Scan"}


class MeteredTransport:
    """A Client whose every call asks what it costs."""

    def __init__(self, transport: Transport, consumed: Consumed) -> None:
        self._transport = transport
        self._consumed = consumed

    async def call(self, operation: str, **request: object) -> Answer:
        answer = await self._transport.call(operation, ReturnConsumedCapacity="TOTAL", **request)
        capacity = answer.get("ConsumedCapacity", ())
        for each in (capacity,) if isinstance(capacity, Mapping) else capacity:
            self._consumed("read" if operation in READ_OPERATIONS else "write", float(each.get("CapacityUnits", 0)))
        return answer
