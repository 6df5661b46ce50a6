"""The port Tokens: JWTs, verified by what their issuer publishes."""

import httpx
import msgspec
from joserfc import jws, jwt
from joserfc.errors import JoseError

from bg_ingest.adapters.issuer import IssuerKeys
from bg_ingest.domain.credentials import Claims
from bg_ingest.ports import Clock

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
"""What a token may be signed with, whatever it says itself: asymmetric all of them, and never ``none``."""

LEEWAY = 30
"""Seconds that the issuer's clock may be from ours."""

LONGEST = 8_192
"""Characters."""

_NOT_A_TOKEN = (JoseError, ValueError, TypeError, KeyError, RecursionError)
"""What the library raises at what is no token, or not a right one."""


class IssuerTokens:
    """Verifies the tokens of one issuer for one audience."""

    def __init__(
        self, http: httpx.AsyncClient, clock: Clock, *, issuer: str, audience: str, keys_url: str | None = None
    ) -> None:
        self._keys = IssuerKeys(http, issuer, keys_url)
        self._clock = clock
        self._issuer = issuer
        self._audience = audience
        self._registry = jws.JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)

    async def claims(self, token: str) -> Claims | None:
        kid, promising = self._kid(token)
        if not promising:  # nobody is asked for a key
            return None
        keys = await self._keys.keys(kid)
        try:
            found = jwt.decode(token, keys, algorithms=ALGORITHMS, registry=self._registry).claims
            self._rules().validate(found)
        except _NOT_A_TOKEN:
            return None
        sub, scope = found["sub"], found.get("scope")
        return Claims(sub, frozenset(scope.split()) if isinstance(scope, str) else frozenset())

    def _kid(self, token: str) -> tuple[str | None, bool]:
        """Return which key a token says it is signed with, and whether it can be one of ours at all."""
        if len(token) > LONGEST or not token.isascii():
            return None, False
        try:
            said = jws.extract_compact(token.encode(), registry=self._registry)
            header, claims = said.headers(), msgspec.json.decode(said.payload or b"", type=dict[str, object])
        except _NOT_A_TOKEN:
            return None, False
        kid = header.get("kid")
        ours = header.get("alg") in ALGORITHMS and claims.get("iss") == self._issuer
        return (kid if isinstance(kid, str) else None), ours

    def _rules(self) -> jwt.JWTClaimsRegistry:
        now = int(self._clock.now().timestamp())
        return jwt.JWTClaimsRegistry(
            now,
            LEEWAY,
            iss={"essential": True, "value": self._issuer},
            aud={"essential": True, "value": self._audience},
            exp={"essential": True},
            sub={"essential": True},
        )
