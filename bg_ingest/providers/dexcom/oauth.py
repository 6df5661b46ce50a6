"""Dexcom's OAuth2: the login address, and codes and refresh tokens traded for pairs of tokens."""

import warnings
from datetime import datetime, timedelta
from typing import Any

import authlib.deprecate
import httpx
import msgspec

from bg_ingest.domain.grants import REFRESH_DEADLINE, Credentials, Secret
from bg_ingest.errors import GrantRejected, ProviderForbidden, ProviderMisbehaved
from bg_ingest.ports import Clock
from bg_ingest.providers.dexcom.settings import DexcomSettings
from bg_ingest.providers.dexcom.wire import TokenPair, TokenRefusal
from bg_ingest.providers.http import decode_json, read_body, translate_transport_errors

with warnings.catch_warnings():
    # It says at every start that it will move to httpx2. Ours is pinned, and a test checks what it is built on.
    warnings.simplefilter("ignore", authlib.deprecate.AuthlibDeprecationWarning)
    from authlib.integrations.httpx_client import AsyncOAuth2Client

DEFAULT_LIFETIME_SECONDS = 7200
"""Seconds that an access token lives (Dexcom's own example); taken where the answer does not say it readably."""

MAX_LIFETIME_SECONDS = 86_400
"""Seconds believed at most: Dexcom's prose calls its seconds milliseconds."""


class OAuth:
    """Calls of the token endpoint go out once: a refresh token sent twice is a lost grant.

    Authlib's client is made per call, on the connections of ours: it keeps the last token it saw, and would refresh
    on its own.
    """

    def __init__(self, settings: DexcomSettings, http: httpx.AsyncClient, clock: Clock) -> None:
        self._settings = settings
        self._http = http
        self._clock = clock

    def authorize_url(self, region: str, state: str) -> str:
        """Return the login page's address."""
        login = self._settings.url(region, "/v3/oauth2/login")
        url: str
        url, _ = self._client().create_authorization_url(login, state, scope="offline_access")
        return url

    async def exchange(self, region: str, code: str) -> Credentials:
        return await self._request_tokens(region, grant_type="authorization_code", code=code)

    async def refresh(self, region: str, refresh: Secret) -> Credentials:
        return await self._request_tokens(region, grant_type="refresh_token", refresh_token=refresh.reveal())

    async def _request_tokens(self, region: str, **form: str) -> Credentials:
        client, asked_at = self._client(), self._clock.now()
        client.register_compliance_hook("access_token_response", self._accept_pair)
        url = self._settings.url(region, "/v3/oauth2/token")
        with translate_transport_errors(REFRESH_DEADLINE):
            token = await client.fetch_token(url, redirect_uri=self._settings.redirect_uri, **form)
        expires_at = asked_at + timedelta(seconds=token["expires_in"])
        return Credentials(Secret(token["access_token"]), Secret(token["refresh_token"]), expires_at)

    def _client(self) -> Any:  # noqa: ANN401 - Authlib ships no types
        return AsyncOAuth2Client(
            self._settings.client_id,
            self._settings.client_secret.reveal(),
            token_endpoint_auth_method="client_secret_post",  # noqa: S106 - a method's name
            redirect_uri=self._settings.redirect_uri,
            transport=_SharedTransport(self._http),
            timeout=self._http.timeout,
        )

    def _accept_pair(self, response: httpx.Response) -> httpx.Response:
        """Give Authlib only pairs it can read.

        On its own it loses a pair with an odd ``expires_in`` and takes a gateway's JSON for one.
        """
        pair = read_pair(response, self._clock.now())
        return httpx.Response(200, content=msgspec.json.encode(pair))


def read_pair(response: httpx.Response, now: datetime) -> TokenPair:
    """Return the pair with its life in whole seconds.

    GrantRejected only where the body blames the grant, ProviderForbidden where it blames our client.
    """
    status = response.status_code
    if 400 <= status < 500 and status not in {408, 429}:
        error = _error_code(response.content)
        if error == "invalid_grant" and status in {400, 401}:
            raise GrantRejected
        if error in {"invalid_client", "unauthorized_client"}:
            raise ProviderForbidden
        raise ProviderMisbehaved(f"The token endpoint answered with status {status}.")
    pair = decode_json(read_body(response, now), TokenPair)
    return msgspec.structs.replace(pair, expires_in=_lifetime_seconds(pair.expires_in))


def _error_code(content: bytes) -> str | None:
    try:
        return decode_json(content, TokenRefusal).error
    except ProviderMisbehaved:
        return None


def _lifetime_seconds(expires_in: object) -> int:
    try:
        seconds = int(float(str(expires_in)))
    except (ValueError, OverflowError):
        return DEFAULT_LIFETIME_SECONDS
    return min(seconds, MAX_LIFETIME_SECONDS) if seconds > 0 else DEFAULT_LIFETIME_SECONDS


class _SharedTransport(httpx.AsyncBaseTransport):
    """Sends another client's requests with ours, so that both share what is set there."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._http.send(request, stream=True)
