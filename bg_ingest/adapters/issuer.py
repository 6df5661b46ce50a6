"""The keys that an issuer signs its tokens with, as it publishes them: kept for a while, read again as they change."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, suppress
from typing import Any, cast
from urllib.parse import urlsplit

import anyio
import httpx
import msgspec
import structlog
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, Key, KeySet

from bg_ingest.errors import IssuerUnavailable

log: structlog.stdlib.BoundLogger = structlog.get_logger()

FRESH, LAST = 600.0, 86_400.0
"""Seconds after which the keys are read again, and for which they are believed while the issuer does not answer."""

AGAIN = 10.0
"""Seconds between two tries, whoever asks: a token may name a key that does not exist, and cost the issuer nothing."""

WITHIN = 5.0
"""Seconds for the issuer to answer."""

LARGEST = 262_144
"""Bytes of an answer."""

SMALLEST_RSA = 342
"""Characters of the modulus in base64: 2,048 bits."""

_NOWHERE = float("-inf")


class IssuerKeys:
    """Knows the public keys of one issuer."""

    def __init__(self, http: httpx.AsyncClient, issuer: str, keys_url: str | None = None) -> None:
        """Without an address for the keys it is found as OpenID Connect Discovery has it, or in its usual place."""
        self._http = http
        self._issuer = issuer
        self._keys_url = keys_url
        self._keys: KeySet | None = None
        self._read_at = self._tried_at = _NOWHERE
        self._failed = False
        self._reading = anyio.Lock()

    async def keys(self, kid: str | None) -> KeySet:
        """Return all keys, read again if none has this id or they are old.

        IssuerUnavailable when none can be had, or when it cannot be had whether there is a key with this id by now.
        """
        known, now = self._knows(kid), anyio.current_time()
        due = not known or now - self._read_at >= FRESH
        if due and not (known and self._reading.locked()):  # who needs no new one need not wait for it
            async with self._reading:
                if anyio.current_time() - self._tried_at >= AGAIN:
                    await self._read()
        if self._keys is None or anyio.current_time() - self._read_at >= LAST:
            raise IssuerUnavailable
        if self._failed and not self._knows(kid):
            raise IssuerUnavailable
        return self._keys

    def _knows(self, kid: str | None) -> bool:
        return self._keys is not None and (kid is None or any(each.kid == kid for each in self._keys))

    async def _read(self) -> None:
        asked_at, failure = anyio.current_time(), None
        try:
            with anyio.fail_after(WITHIN):
                self._keys = KeySet(list(_usable(await self._get(self._keys_url or await self._published_at()))))
        except (TimeoutError, httpx.HTTPError, _Unreadable) as failed:
            failure = str(failed) if isinstance(failed, _Unreadable) else type(failed).__name__
        else:
            self._read_at = asked_at
        if (failure is not None) != self._failed:  # the edge, not every try
            tell = log.error if failure else log.info
            tell("the issuer's keys", action="issuer_keys", issuer=self._issuer, failure=failure)
        self._failed, self._tried_at = failure is not None, anyio.current_time()

    async def _published_at(self) -> str:
        root = self._issuer.rstrip("/")
        found = await self._get(f"{root}/.well-known/openid-configuration", missing={})
        if not found:
            return f"{root}/.well-known/jwks.json"
        url = found.get("jwks_uri")
        if found.get("issuer") != self._issuer or not isinstance(url, str):
            raise _Unreadable("its configuration is another issuer's, or names no keys")
        if urlsplit(url).scheme != "https" and urlsplit(self._issuer).scheme == "https":
            raise _Unreadable("its configuration leads from https to what can be read on the way")
        return url

    async def _get(self, url: str, missing: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return a JSON object from there; ``missing`` where that is given and there is none."""
        content = b""
        async with self._http.stream("GET", url, timeout=WITHIN, follow_redirects=False) as answer:
            if answer.status_code == 404 and missing is not None:
                return missing
            if answer.status_code != 200:
                raise _Unreadable(f"status {answer.status_code}")
            async with aclosing(cast("AsyncGenerator[bytes]", answer.aiter_bytes())) as pieces:
                async for piece in pieces:
                    content += piece
                    if len(content) > LARGEST:
                        raise _Unreadable("too much")
        try:
            return msgspec.json.decode(content, type=dict[str, Any])
        except (ValueError, RecursionError):
            raise _Unreadable("no JSON object") from None


class _Unreadable(Exception):
    """The text says why, and repeats nothing of what came."""


def _usable(published: dict[str, Any]) -> Iterator[Key]:
    """Yield the keys that may verify tokens; of the others an issuer may publish as many as it likes.

    Never a symmetric one: a public key, taken for a shared secret, would let everybody sign.
    """
    keys = published.get("keys")
    for each in keys if isinstance(keys, list) else ():
        if isinstance(each, dict) and each.get("use", "sig") == "sig" and _is_strong(each):
            with suppress(JoseError, ValueError, TypeError, KeyError):
                yield JWKRegistry.import_key(each)


def _is_strong(key: dict[str, Any]) -> bool:
    return key.get("kty") == "EC" or (key.get("kty") == "RSA" and len(str(key.get("n"))) >= SMALLEST_RSA)
