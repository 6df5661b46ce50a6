"""The port ``TokenVerifier``: JWTs, verified with the keys that their issuer publishes."""

import httpx
import msgspec
from joserfc import jws, jwt
from joserfc.errors import JoseError

from bg_ingest.adapters.jwt.keys import JwksCache
from bg_ingest.domain.access import TokenClaims
from bg_ingest.ports import Clock

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
"""Accepted signature algorithms, whatever the token's header says: asymmetric ones only, never ``none``."""

LEEWAY_SECONDS = 30
"""Accepted difference of the issuer's clock."""

MAX_CHARACTERS = 8_192

_TOKEN_ERRORS = (JoseError, ValueError, TypeError, KeyError, RecursionError)
"""Errors of the library for malformed and for refused tokens."""


class JwtVerifier:
    """Verifies the tokens of one issuer for one audience."""

    def __init__(
        self, http: httpx.AsyncClient, clock: Clock, *, issuer: str, audience: str, keys_url: str | None = None
    ) -> None:
        self._keys = JwksCache(http, issuer, keys_url)
        self._clock = clock
        self._issuer = issuer
        self._audience = audience
        self._registry = jws.JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)

    async def verify(self, token: str) -> TokenClaims | None:
        kid, is_candidate = self._kid(token)
        if not is_candidate:  # the issuer is not asked for a key
            return None
        keys = await self._keys.get(kid)
        try:
            claims = jwt.decode(token, keys, algorithms=ALGORITHMS, registry=self._registry).claims
            self._claims_registry().validate(claims)
        except _TOKEN_ERRORS:
            return None
        sub, scope = claims["sub"], claims.get("scope")
        return TokenClaims(sub, frozenset(scope.split()) if isinstance(scope, str) else frozenset())

    def _kid(self, token: str) -> tuple[str | None, bool]:
        """Return the key id in a token's header, and whether the token can be the issuer's at all."""
        if len(token) > MAX_CHARACTERS or not token.isascii():
            return None, False
        try:
            parsed = jws.extract_compact(token.encode(), registry=self._registry)
            header, claims = parsed.headers(), msgspec.json.decode(parsed.payload or b"", type=dict[str, object])
        except _TOKEN_ERRORS:
            return None, False
        kid = header.get("kid")
        is_candidate = header.get("alg") in ALGORITHMS and claims.get("iss") == self._issuer
        return (kid if isinstance(kid, str) else None), is_candidate

    def _claims_registry(self) -> jwt.JWTClaimsRegistry:
        now = int(self._clock.now().timestamp())
        return jwt.JWTClaimsRegistry(
            now,
            LEEWAY_SECONDS,
            iss={"essential": True, "value": self._issuer},
            aud={"essential": True, "value": self._audience},
            exp={"essential": True},
            sub={"essential": True},
        )
