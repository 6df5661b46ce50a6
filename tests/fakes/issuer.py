"""Token issuer with its own keys, published over HTTP, that signs any claims."""

import warnings
from datetime import datetime, timedelta
from typing import Any

import httpx
from joserfc import jws, jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, Key, KeyParameters, RSAKey

ISSUER = "https://id.example/"
AUDIENCE = "bg-ingest"

_POOL: dict[str, Key] = {}
"""Keys by name: generating RSA keys takes time, so each is generated once."""


def key(kid: str = "first", kind: str = "EC") -> Key:
    name = f"{kind} {kid}"
    if name not in _POOL:
        own: KeyParameters = {"kid": kid, "use": "sig"}
        _POOL[name] = ECKey.generate_key("P-256", own) if kind == "EC" else RSAKey.generate_key(2048, own)
    return _POOL[name]


class FakeIssuer:
    """Answers over HTTP; ``failing`` is a status or an exception to answer with instead."""

    def __init__(self, now: Any, *, discovered: bool = True) -> None:
        self.now = now
        self.published: list[Any] = [key().as_dict(private=False)]
        self.configuration: Any = {"issuer": ISSUER, "jwks_uri": "https://keys.example/all"} if discovered else None
        self.failing: int | Exception | None = None
        self.asked: list[str] = []
        self.http = httpx.AsyncClient(transport=httpx.MockTransport(self._answer))

    def token(self, by: Key | None = None, *, alg: str = "ES256", header: Any = None, **claims: Any) -> str:
        """Return a valid token with some claims replaced; None removes a claim."""
        now: datetime = self.now()
        whole = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "ada",
            "scope": "readings:read",
            "exp": int((now + timedelta(minutes=5)).timestamp()),
        } | claims
        by = by or key()
        named = {"alg": alg, "kid": by.kid} | (header or {})
        jose_header = {name: value for name, value in named.items() if value is not None}
        lenient = jws.JWSRegistry(algorithms=[alg], strict_check_header=False)
        content = {name: value for name, value in whole.items() if value is not None}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SecurityWarning)  # RFC 9864 deprecates the name EdDSA
            return jwt.encode(jose_header, content, by, [alg], lenient, default_type=None)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(str(request.url))
        if isinstance(self.failing, Exception):
            raise self.failing
        if self.failing is not None:
            return httpx.Response(self.failing)
        if request.url.path.endswith("/.well-known/openid-configuration"):
            return httpx.Response(404) if self.configuration is None else httpx.Response(200, json=self.configuration)
        return httpx.Response(200, json={"keys": self.published})
