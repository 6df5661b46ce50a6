"""One client for the process. The AWS library finds credentials and endpoint; what is said there, we say.

DynamoDB's protocol is a POST of JSON with a signature. botocore prepares and reads it for any service, which is two
thirds of what a call costs: 0.7 ms of processor where this takes 0.3 (`python -m tests.benchmarks.reads`).
"""

import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeAlias
from urllib.request import getproxies, proxy_bypass

import aioboto3
import aiohttp
import anyio
import msgspec
from aiobotocore.config import AioConfig
from botocore.exceptions import NoCredentialsError
from yarl import URL

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.adapters.dynamodb.signing import Credentials, Signer

Answer: TypeAlias = dict[str, Any]
"""As it came: numbers are texts, bytes are base64."""

CONNECTED_WITHIN, ANSWERED_WITHIN, OVER_WITHIN = 1.0, 3.0, 10.0
"""Seconds, of each try: until the server takes the connection, until its next bytes come, altogether."""

TRIES, FIRST_WAIT = 3, 0.1
"""What passes is tried again, after a wait between nothing and so many seconds, the second time twice that."""

PASSING = {
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ThrottlingException",
    "TransactionInProgressException",
}
PASSING_STATUSES = {500, 502, 503, 504}

MOST_CONNECTIONS = 64

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Refused(Exception):
    """The server said no, by a code of DynamoDB's; ``answer`` may say more."""

    def __init__(self, status: int, code: str, answer: Mapping[str, Any], tries: int) -> None:
        super().__init__(code)
        self.passes = status in PASSING_STATUSES or code in PASSING
        self.code = code
        self.answer = answer
        self.tries = tries
        """The last one included: of an earlier one nobody knows whether it had an effect."""


class Client(Protocol):
    """What a table is asked through."""

    async def call(self, operation: str, **request: object) -> Answer:
        """Ask by DynamoDB's names; Refused, or what aiohttp and botocore raise when there is no answer."""


ANYBODY = Credentials("anybody", "anybody", None)
"""For emulators, which want a signature and do not look at it."""


class DirectClient:
    """A Client. ``credentials`` are botocore's, which renews them; without any an emulator gets invented ones."""

    def __init__(self, http: aiohttp.ClientSession, url: URL, region: str, credentials: Any) -> None:  # noqa: ANN401 - botocore has no types
        self._http = http
        self._url = url
        self._signer = Signer(url, region)
        self._credentials = credentials
        self._clock = SystemClock()

    async def call(self, operation: str, **request: object) -> Answer:
        body, target = _encode(request), f"DynamoDB_20120810.{operation}"
        for tries in range(1, TRIES):
            try:
                return await self._send(target, body, tries)
            except Refused as refused:
                if not refused.passes:
                    raise
            except (aiohttp.ClientError, OSError):  # no answer, or none in time
                pass
            await anyio.sleep(random.uniform(0, FIRST_WAIT * 2 ** (tries - 1)))
        return await self._send(target, body, TRIES)

    async def _send(self, target: str, body: bytes, tries: int) -> Answer:
        headers = self._signer.headers(await self._current(), target, body, self._clock.now())
        async with self._http.post(self._url, data=body, headers=headers, allow_redirects=False) as answered:
            content = await answered.read()
        if answered.status == 200:
            return _decode(content)
        raise _refused(answered.status, content, tries)

    async def _current(self) -> Credentials:
        if self._credentials is not None:
            now = await self._credentials.get_frozen_credentials()
            return Credentials(now.access_key, now.secret_key, now.token)
        if self._url.scheme == "http":
            return ANYBODY
        raise NoCredentialsError


def _refused(status: int, content: bytes, tries: int) -> Refused:
    try:
        answer = _decode(content)
    except msgspec.DecodeError:  # whatever stands in front of it
        answer = {}
    code = str(answer.get("__type", f"HTTP {status}")).rpartition("#")[2]
    return Refused(status, code, answer, tries)


@asynccontextmanager
async def open_client(endpoint: str | None, region: str | None, aws: aioboto3.Session) -> AsyncIterator[Client]:
    """Open a client; endpoint, region and credentials are looked for as AWS's tools do where they are not given."""
    url, region = await _where(endpoint, region, aws)
    bypassed = proxy_bypass(url.host or "")
    proxy = None if bypassed else getproxies().get(url.scheme)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=MOST_CONNECTIONS, keepalive_timeout=12),
        timeout=aiohttp.ClientTimeout(OVER_WITHIN, sock_connect=CONNECTED_WITHIN, sock_read=ANSWERED_WITHIN),
        headers={"User-Agent": "bg-ingest"},
        skip_auto_headers=("Accept", "Accept-Encoding"),
        cookie_jar=aiohttp.DummyCookieJar(),
        proxy=proxy,
    ) as http:
        yield DirectClient(http, url, region, await aws.get_credentials())


async def _where(endpoint: str | None, region: str | None, aws: aioboto3.Session) -> tuple[URL, str]:
    """Ask the AWS library, which knows its regions, their names for DynamoDB and all that may be configured."""
    async with aws.client("dynamodb", region_name=region, endpoint_url=endpoint, config=AioConfig()) as found:
        return URL(found.meta.endpoint_url), str(found.meta.region_name)
