"""The direct transport to DynamoDB: JSON in POST requests of aiohttp, signed with AWS Signature Version 4.

botocore prepares, signs and parses requests generically, from a model of the service. That takes two to three times
as much CPU; docs/decisions has the figures of both transports. A test compares the signatures with botocore's.
Source of the signature: "Create a signed AWS API request", IAM user guide.
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

from bg_ingest.adapters.aws.session import max_tries, ssl_context, translate_configuration_errors
from bg_ingest.adapters.clock import SystemClock

CONTENT_TYPE = "application/x-amz-json-1.0"


class AwsKeys(NamedTuple):
    """Credentials of one request. Those of a role have a token, expire and are renewed."""

    access_key: str
    secret_key: str
    token: str | None


class Signer:
    """Signs requests to one endpoint in one region. The requests differ only in target, time and body."""

    def __init__(self, url: URL, region: str) -> None:
        self._host = url.host_port_subcomponent or ""
        self._path = url.raw_path
        self._region = region
        self._derived: tuple[str, str, bytes] = ("", "", b"")

    def headers(self, keys: AwsKeys, target: str, body: bytes, at: datetime) -> dict[str, str]:
        """Return the signed headers with the signature. ``target`` names the operation; ``at`` is in UTC."""
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
        """Derive the key of a day; the last one is cached."""
        if self._derived[:2] != (secret, day):
            key = f"AWS4{secret}".encode()
            for part in (day, self._region, "dynamodb", "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._derived = (secret, day, key)
        return self._derived[2]


Answer: TypeAlias = dict[str, Any]
"""Decoded JSON: numbers are texts. Binary values are base64 texts, or bytes from ``Aioboto3Transport``."""

CONNECT_TIMEOUT, READ_TIMEOUT, TOTAL_TIMEOUT = 1.0, 3.0, 10.0
"""Seconds of each try: to connect, between received bytes, in total."""

MAX_TRIES, FIRST_WAIT_SECONDS = 3, 0.1
"""Maximum number of tries of a call with transient errors, unless AWS_MAX_ATTEMPTS is set. The waits between tries are
random: the first is at most FIRST_WAIT_SECONDS, and the bound doubles for each further wait."""

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
    """An error response of the server, with DynamoDB's code; ``answer`` holds its other fields."""

    def __init__(self, status: int, code: str, answer: Mapping[str, Any], tries: int) -> None:
        super().__init__(code)
        self.is_retryable = status in RETRYABLE_STATUSES or code in RETRYABLE_CODES
        self.code = code
        self.answer = answer
        self.tries = tries
        """Number of tries of the call, including the last. An earlier one may have had an effect."""


class Transport(Protocol):
    """Calls of DynamoDB's operations. Two implementations pass one contract suite: direct and aioboto3's client."""

    async def call(self, operation: str, **request: object) -> Answer:
        """Call an operation with parameters of the API reference.

        DynamoError for an error response. Without a response, errors of aiohttp and botocore; msgspec.DecodeError
        for a response that is not JSON.
        """


EMULATOR_KEYS = AwsKeys("anybody", "anybody", None)
"""Credentials for emulators, which require a signature and do not verify it."""


class DirectTransport:
    """Implements ``Transport``. botocore renews the ``credentials``; without any, http endpoints get EMULATOR_KEYS."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: URL,
        region: str,
        credentials: Any,  # noqa: ANN401 - botocore has no types
        max_tries: int = MAX_TRIES,
    ) -> None:
        self._http = http
        self._url = url
        self._signer = Signer(url, region)
        self._credentials = credentials
        self._max_tries = max_tries
        self._clock = SystemClock()

    async def call(self, operation: str, **request: object) -> Answer:
        body, target = _encode(request), f"DynamoDB_20120810.{operation}"
        for tries in range(1, self._max_tries):
            try:
                return await self._send(target, body, tries)
            except DynamoError as error:
                if not error.is_retryable:
                    raise
            except (aiohttp.ClientError, OSError):  # no response, or none in time
                pass
            await anyio.sleep(random.uniform(0, FIRST_WAIT_SECONDS * 2 ** (tries - 1)))
        return await self._send(target, body, self._max_tries)

    async def _send(self, target: str, body: bytes, tries: int) -> Answer:
        headers = self._signer.headers(await self._current_keys(), target, body, self._clock.now())
        async with self._http.post(self._url, data=body, headers=headers, allow_redirects=False) as response:
            content = await response.read()
        if response.status == 200:
            return _decode(content)
        raise _decode_error(response.status, content, tries)

    async def _current_keys(self) -> AwsKeys:
        if self._credentials is not None:
            keys = await self._credentials.get_frozen_credentials()
            return AwsKeys(keys.access_key, keys.secret_key, keys.token)
        if self._url.scheme == "http":
            return EMULATOR_KEYS
        raise NoCredentialsError


def _decode_error(status: int, content: bytes, tries: int) -> DynamoError:
    try:
        answer = _decode(content)
    except msgspec.DecodeError:  # the response of a proxy or load balancer
        answer = {}
    code = str(answer.get("__type", f"HTTP {status}")).rpartition("#")[2]
    return DynamoError(status, code, answer, tries)


@asynccontextmanager
async def open_transport(
    endpoint: str | None, region: str | None, session: aioboto3.Session
) -> AsyncIterator[Transport]:
    """Open a transport. The AWS library finds the credentials, and ``endpoint`` and ``region`` if they are None."""
    url, region = await resolve_endpoint(endpoint, region, session)
    with translate_configuration_errors():
        credentials, context = await session.get_credentials(), ssl_context(session)
        tries = max_tries(session, MAX_TRIES)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS, keepalive_timeout=12, ssl=context),
        timeout=aiohttp.ClientTimeout(TOTAL_TIMEOUT, sock_connect=CONNECT_TIMEOUT, sock_read=READ_TIMEOUT),
        headers={"User-Agent": "bg-ingest"},
        skip_auto_headers=("Accept", "Accept-Encoding"),
        cookie_jar=aiohttp.DummyCookieJar(),
        proxy=None if proxy_bypass(url.host or "") else getproxies().get(url.scheme),
    ) as http:
        yield DirectTransport(http, url, region, credentials, tries)


async def resolve_endpoint(endpoint: str | None, region: str | None, session: aioboto3.Session) -> tuple[URL, str]:
    """Return the endpoint and region from the AWS library, which covers all regions and sources of configuration."""
    with translate_configuration_errors():
        async with session.client("dynamodb", region_name=region, endpoint_url=endpoint, config=AioConfig()) as client:
            return URL(client.meta.endpoint_url), str(client.meta.region_name)


READ_OPERATIONS = {"GetItem", "BatchGetItem", "Query", "Scan"}


class MeteredTransport:
    """A transport that reports the consumed capacity of every call: "read" or "write", and the number of units."""

    def __init__(self, transport: Transport, consumed: Callable[[str, float], None]) -> None:
        self._transport = transport
        self._consumed = consumed

    async def call(self, operation: str, **request: object) -> Answer:
        answer = await self._transport.call(operation, ReturnConsumedCapacity="TOTAL", **request)
        capacity = answer.get("ConsumedCapacity", ())
        for table in (capacity,) if isinstance(capacity, Mapping) else capacity:
            self._consumed("read" if operation in READ_OPERATIONS else "write", float(table.get("CapacityUnits", 0)))
        return answer
