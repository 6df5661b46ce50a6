"""Dexcom's OAuth2: login address, exchange of codes and refresh tokens, and the sealed content of token pairs."""

import warnings
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import authlib.deprecate
import httpx
import msgspec

from bg_ingest.domain.grants import REFRESH_DEADLINE, Credentials, Renewal, Secret, SecretBytes
from bg_ingest.ports import Clock
from bg_ingest.providers.dexcom import DexcomOptions
from bg_ingest.providers.dexcom.wire import TokenPair, decode_token_pair, read_token_body
from bg_ingest.providers.http import ProviderClock, translate_transport_errors

with warnings.catch_warnings():
    # Authlib warns that it will move to httpx2. Its version is pinned, and a test checks that its client is httpx's.
    warnings.simplefilter("ignore", authlib.deprecate.AuthlibDeprecationWarning)
    from authlib.integrations.httpx_client import AsyncOAuth2Client

DEFAULT_LIFETIME_SECONDS = 7200
"""Lifetime of an access token (Dexcom's own example), used if the answer states none that is readable."""

MAX_LIFETIME_SECONDS = 86_400
"""Limit of a stated lifetime, in case Dexcom states milliseconds, as its documentation says, instead of seconds."""


class Tokens(msgspec.Struct, frozen=True):
    """Access token and its expiry, and single-use refresh token."""

    access: Secret
    refresh: Secret
    expires_at: datetime

    def to_credentials(self) -> Credentials:
        """Return the credentials. Their content is a MessagePack array of access token, refresh token and expiry."""
        content = msgspec.msgpack.encode([self.access.reveal(), self.refresh.reveal(), self.expires_at])
        return Credentials(SecretBytes(content), self.expires_at, Renewal.SINGLE_USE)


def parse_tokens(content: SecretBytes) -> Tokens:
    access, refresh, expires_at = msgspec.msgpack.decode(content.reveal(), type=tuple[str, str, datetime])
    return Tokens(Secret(access), Secret(refresh), expires_at)


class OAuth:
    """Login address and token endpoint.

    A call of the token endpoint is sent once, because a refresh token sent twice may end the grant. Each call has a new
    client of Authlib, because a client keeps its last token and refreshes it without being asked.
    """

    def __init__(
        self, options: DexcomOptions, http: httpx.AsyncClient, clock: Clock, provider_clock: ProviderClock
    ) -> None:
        self._options = options
        self._http = http
        self._clock = clock
        self._provider_clock = provider_clock

    def authorize_url(self, region: str, state: str) -> str:
        login = self._options.url(region, "/v3/oauth2/login")
        url: str
        url, _ = self._client(region).create_authorization_url(login, state, scope="offline_access")
        return url

    async def exchange(self, region: str, code: str) -> Tokens:
        return await self._request_tokens(region, grant_type="authorization_code", code=code)

    async def refresh(self, region: str, refresh: Secret) -> Tokens:
        return await self._request_tokens(region, grant_type="refresh_token", refresh_token=refresh.reveal())

    async def _request_tokens(self, region: str, **form: str) -> Tokens:
        asked_at = self._clock.now()
        url = self._options.url(region, "/v3/oauth2/token")
        with translate_transport_errors(REFRESH_DEADLINE):
            pair: TokenPair = await self._client(region).fetch_token(
                url, redirect_uri=self._options.redirect_uri, **form
            )
        expires_at = asked_at + timedelta(seconds=_lifetime_seconds(pair.expires_in))
        return Tokens(Secret(pair.access_token), Secret(pair.refresh_token), expires_at)

    def _client(self, region: str) -> Any:  # noqa: ANN401 - Authlib ships no types
        sent = self._clock.now()

        def decode(response: httpx.Response) -> TokenPair:
            self._provider_clock.observe(region, response.headers, sent)
            return decode_token_pair(read_token_body(response, self._provider_clock.now(region)))

        return _TokenClient(
            self._options.client_id,
            self._options.client_secret.reveal(),
            token_endpoint_auth_method="client_secret_post",  # noqa: S106 - a method's name
            redirect_uri=self._options.redirect_uri,
            transport=_SharedTransport(self._http),
            timeout=self._http.timeout,
            decode=decode,
        )


class _TokenClient(AsyncOAuth2Client):  # type: ignore[misc] # Authlib ships no types
    """Authlib's client with our decoding of a token answer.

    Authlib's own decoding loses a pair with an odd ``expires_in``, and accepts any JSON of a gateway as a pair.
    """

    def __init__(self, *args: object, decode: Callable[[httpx.Response], TokenPair], **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self._decode = decode

    def parse_response_token(self, resp: httpx.Response) -> TokenPair:
        """Replace Authlib's method, which would decode the body in its own way."""
        return self._decode(resp)


def _lifetime_seconds(expires_in: object) -> int:
    try:
        seconds = int(float(str(expires_in)))
    except (ValueError, OverflowError):
        return DEFAULT_LIFETIME_SECONDS
    return min(seconds, MAX_LIFETIME_SECONDS) if seconds > 0 else DEFAULT_LIFETIME_SECONDS


class _SharedTransport(httpx.AsyncBaseTransport):
    """Sends the requests of Authlib's client through the shared client, which has our limits and time-outs."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._http.send(request, stream=True)
