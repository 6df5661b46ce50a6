"""Implementation of the port ``TokenVerifier``: verifies JWTs with the published public keys (JWKS) of their issuer."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, suppress
from typing import Any, cast
from urllib.parse import urlsplit

import anyio
import httpx
import msgspec
import structlog
from joserfc import jws, jwt
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwa import JWSAlgModel
from joserfc.jwk import JWKRegistry, Key, KeySet

from bg_ingest.adapters.jwt_claims import is_access_token, names_audience_as_client, to_token_claims
from bg_ingest.domain.access import TokenClaims
from bg_ingest.errors import IssuerUnavailable
from bg_ingest.ports import Clock

log: structlog.stdlib.BoundLogger = structlog.get_logger()

ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"),
    *("EdDSA", "Ed25519"),  # RFC 8037, and its successor RFC 9864
)
"""Accepted signature algorithms: asymmetric ones only, never ``none``. The token's header cannot extend them."""

LEEWAY_SECONDS = 30
"""Accepted difference of the issuer's clock."""

MAX_CHARACTERS = 8_192
"""Longest accepted token."""

_TOKEN_ERRORS = (JoseError, ValueError, TypeError, KeyError, RecursionError)
"""Errors of joserfc for malformed and for refused tokens."""

REFRESH_AFTER, MAX_AGE = 600.0, 86_400.0
"""Seconds: age at which the keys are read again, and longest time of their use while the issuer does not answer."""

RETRY_SECONDS = 10.0
"""Shortest time between two reads. Any token may name an unknown key, so requests to the issuer need a limit."""

TIMEOUT = 5.0
"""Seconds for the issuer's answer."""

MAX_BYTES = 262_144
"""Largest accepted answer."""

MIN_RSA_CHARACTERS = 342
"""Length of a modulus of 2,048 bits in base64."""

_NEVER = float("-inf")


class AcceptedAlgorithms(jws.JWSRegistry):
    """Registry that omits joserfc's warning about the name EdDSA, which RFC 9864 replaces and issuers still use."""

    def get_alg(self, name: str) -> JWSAlgModel:
        if name not in ALGORITHMS:
            raise UnsupportedAlgorithmError
        return self.algorithms[name]


class JwtVerifier:
    """Verifies the tokens of one issuer for one audience."""

    def __init__(
        self, http: httpx.AsyncClient, clock: Clock, *, issuer: str, audience: str, keys_url: str | None = None
    ) -> None:
        self._keys = JwksCache(http, issuer, keys_url)
        self._clock = clock
        self._issuer = issuer
        self._audience = audience
        self._registry = AcceptedAlgorithms(algorithms=ALGORITHMS, strict_check_header=False)

    async def verify(self, token: str) -> TokenClaims | None:
        kid, is_candidate = self._inspect(token)
        if not is_candidate:  # refused without reading the issuer's keys
            return None
        keys = await self._keys.get(kid)
        try:
            claims = jwt.decode(token, keys, algorithms=ALGORITHMS, registry=self._registry).claims
            self._claims_registry(claims).validate(claims)
        except _TOKEN_ERRORS:
            return None
        return to_token_claims(claims, self._audience)

    def _inspect(self, token: str) -> tuple[str | None, bool]:
        """Return the key id, and True if the token may be an access token of the issuer. Nothing is verified yet."""
        if len(token) > MAX_CHARACTERS or not token.isascii():
            return None, False
        try:
            parsed = jws.extract_compact(token.encode(), registry=self._registry)
            header, claims = parsed.headers(), msgspec.json.decode(parsed.payload or b"", type=dict[str, object])
        except _TOKEN_ERRORS:
            return None, False
        kid = header.get("kid")
        is_candidate = (
            header.get("alg") in ALGORITHMS and claims.get("iss") == self._issuer and is_access_token(header, claims)
        )
        return (kid if isinstance(kid, str) else None), is_candidate

    def _claims_registry(self, claims: dict[str, Any]) -> jwt.JWTClaimsRegistry:
        now = int(self._clock.now().timestamp())
        return jwt.JWTClaimsRegistry(
            now,
            LEEWAY_SECONDS,
            iss={"essential": True, "value": self._issuer},
            aud={"essential": not names_audience_as_client(claims, self._audience), "value": self._audience},
            exp={"essential": True},
            sub={"essential": False},  # if present, it is text and not empty
        )


class JwksCache:
    """Cache of the public keys of one issuer. Requests that need a new key wait for one shared read."""

    def __init__(self, http: httpx.AsyncClient, issuer: str, keys_url: str | None = None) -> None:
        """If ``keys_url`` is None, the issuer's OpenID configuration names the address of the keys.

        An issuer without such a configuration has them at ``/.well-known/jwks.json``.
        """
        self._http = http
        self._issuer = issuer
        self._keys_url = keys_url
        self._keys: KeySet | None = None
        self._read_at = self._tried_at = _NEVER
        self._failed = False
        self._read_lock = anyio.Lock()

    async def get(self, kid: str | None) -> KeySet:
        """Return all keys, after a new read if they are older than REFRESH_AFTER or none has the id ``kid``.

        IssuerUnavailable: there are no keys younger than MAX_AGE, or none has this id and the last read failed.
        """
        known, now = self._has_key(kid), anyio.current_time()
        due = not known or now - self._read_at >= REFRESH_AFTER
        if due and not (known and self._read_lock.locked()):  # with a known key, no wait for a read in progress
            async with self._read_lock:
                if anyio.current_time() - self._tried_at >= RETRY_SECONDS:
                    await self._read()
        is_outdated = anyio.current_time() - self._read_at >= MAX_AGE
        if self._keys is None or is_outdated or (self._failed and not self._has_key(kid)):
            raise IssuerUnavailable
        return self._keys

    def _has_key(self, kid: str | None) -> bool:
        return self._keys is not None and (kid is None or any(key.kid == kid for key in self._keys))

    async def _read(self) -> None:
        started_at, failure = anyio.current_time(), None
        try:
            with anyio.fail_after(TIMEOUT):
                self._keys = KeySet(
                    list(_iter_usable_keys(await self._fetch_json(self._keys_url or await self._find_keys_url())))
                )
        except (TimeoutError, httpx.HTTPError, _InvalidJwks) as error:
            failure = str(error) if isinstance(error, _InvalidJwks) else type(error).__name__
        else:
            self._read_at = started_at
        if (failure is not None) != self._failed:  # logged at a transition only
            if failure is not None:
                log.error(
                    "cannot read the keys of the issuer", action="issuer_keys", issuer=self._issuer, failure=failure
                )
            else:
                log.info("can read the keys of the issuer again", action="issuer_keys", issuer=self._issuer)
        self._failed, self._tried_at = failure is not None, anyio.current_time()

    async def _find_keys_url(self) -> str:
        root = self._issuer.rstrip("/")
        configuration = await self._fetch_json(f"{root}/.well-known/openid-configuration", missing={})
        if not configuration:
            return f"{root}/.well-known/jwks.json"
        url = configuration.get("jwks_uri")
        if configuration.get("issuer") != self._issuer or not isinstance(url, str):
            raise _InvalidJwks("its configuration is another issuer's, or names no keys")
        issuer, keys = urlsplit(self._issuer), urlsplit(url)
        if keys.scheme != "https" and (issuer.scheme == "https" or keys.hostname != issuer.hostname):
            raise _InvalidJwks("its configuration names an address without https")
        return url

    async def _fetch_json(self, url: str, missing: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the JSON object at the address. A 404 gives ``missing``, unless ``missing`` is None."""
        content = bytearray()  # extended in place: ``bytes`` would be copied for each piece
        async with self._http.stream("GET", url, timeout=TIMEOUT, follow_redirects=False) as response:
            if response.status_code == 404 and missing is not None:
                return missing
            if response.status_code != 200:
                raise _InvalidJwks(f"status {response.status_code}")
            async with aclosing(cast("AsyncGenerator[bytes]", response.aiter_bytes())) as pieces:
                async for piece in pieces:
                    content += piece
                    if len(content) > MAX_BYTES:
                        raise _InvalidJwks("the answer is too large")
        try:
            return msgspec.json.decode(content, type=dict[str, Any])
        except (ValueError, RecursionError):
            raise _InvalidJwks("no JSON object") from None


class _InvalidJwks(Exception):
    """The text gives the reason and quotes nothing of the answer."""


def _iter_usable_keys(published: dict[str, Any]) -> Iterator[Key]:
    """Yield the keys that may verify tokens. An issuer may publish any number of other keys.

    Symmetric keys are left out. If a public key were accepted as a shared secret, any client could sign tokens.
    """
    keys = published.get("keys")
    for key in keys if isinstance(keys, list) else ():
        if isinstance(key, dict) and key.get("use", "sig") == "sig" and _is_strong(key):
            with suppress(JoseError, ValueError, TypeError, KeyError):
                yield JWKRegistry.import_key(key)


def _is_strong(key: dict[str, Any]) -> bool:
    is_elliptic = key.get("kty") == "EC" or (key.get("kty"), key.get("crv")) == ("OKP", "Ed25519")
    return is_elliptic or (key.get("kty") == "RSA" and len(str(key.get("n"))) >= MIN_RSA_CHARACTERS)
