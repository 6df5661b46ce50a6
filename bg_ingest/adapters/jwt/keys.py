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

REFRESH_AFTER, MAX_AGE = 600.0, 86_400.0
"""Seconds after which the keys are read again, and for which they are believed while the issuer does not answer."""

RETRY_SECONDS = 10.0
"""Seconds between two tries, whoever asks: a token may name a key that does not exist, and cost the issuer nothing."""

TIMEOUT = 5.0
"""Seconds for the issuer to answer."""

MAX_BYTES = 262_144
"""Bytes of an answer."""

MIN_RSA_CHARACTERS = 342
"""Characters of the modulus in base64: 2,048 bits."""

_NEVER = float("-inf")


class JwksCache:
    """Knows the public keys of one issuer."""

    def __init__(self, http: httpx.AsyncClient, issuer: str, keys_url: str | None = None) -> None:
        """Without an address for the keys it is found as OpenID Connect Discovery has it, or in its usual place."""
        self._http = http
        self._issuer = issuer
        self._keys_url = keys_url
        self._keys: KeySet | None = None
        self._read_at = self._tried_at = _NEVER
        self._failed = False
        self._read_lock = anyio.Lock()

    async def get(self, kid: str | None) -> KeySet:
        """Return all keys, read again if none has this id or they are old.

        IssuerUnavailable when none can be had, or when it cannot be had whether there is a key with this id by now.
        """
        known, now = self._has_key(kid), anyio.current_time()
        due = not known or now - self._read_at >= REFRESH_AFTER
        if due and not (known and self._read_lock.locked()):  # who needs no new one need not wait for it
            async with self._read_lock:
                if anyio.current_time() - self._tried_at >= RETRY_SECONDS:
                    await self._read()
        if self._keys is None or anyio.current_time() - self._read_at >= MAX_AGE:
            raise IssuerUnavailable
        if self._failed and not self._has_key(kid):
            raise IssuerUnavailable
        return self._keys

    def _has_key(self, kid: str | None) -> bool:
        return self._keys is not None and (kid is None or any(each.kid == kid for each in self._keys))

    async def _read(self) -> None:
        asked_at, failure = anyio.current_time(), None
        try:
            with anyio.fail_after(TIMEOUT):
                self._keys = KeySet(
                    list(_iter_usable_keys(await self._fetch_json(self._keys_url or await self._find_keys_url())))
                )
        except (TimeoutError, httpx.HTTPError, _InvalidJwks) as failed:
            failure = str(failed) if isinstance(failed, _InvalidJwks) else type(failed).__name__
        else:
            self._read_at = asked_at
        if (failure is not None) != self._failed:  # the edge, not every try
            write_log = log.error if failure else log.info
            write_log("the issuer's keys", action="issuer_keys", issuer=self._issuer, failure=failure)
        self._failed, self._tried_at = failure is not None, anyio.current_time()

    async def _find_keys_url(self) -> str:
        root = self._issuer.rstrip("/")
        found = await self._fetch_json(f"{root}/.well-known/openid-configuration", missing={})
        if not found:
            return f"{root}/.well-known/jwks.json"
        url = found.get("jwks_uri")
        if found.get("issuer") != self._issuer or not isinstance(url, str):
            raise _InvalidJwks("its configuration is another issuer's, or names no keys")
        if urlsplit(url).scheme != "https" and urlsplit(self._issuer).scheme == "https":
            raise _InvalidJwks("its configuration leads from https to what can be read on the way")
        return url

    async def _fetch_json(self, url: str, missing: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return a JSON object from there; ``missing`` where that is given and there is none."""
        content = b""
        async with self._http.stream("GET", url, timeout=TIMEOUT, follow_redirects=False) as answer:
            if answer.status_code == 404 and missing is not None:
                return missing
            if answer.status_code != 200:
                raise _InvalidJwks(f"status {answer.status_code}")
            async with aclosing(cast("AsyncGenerator[bytes]", answer.aiter_bytes())) as pieces:
                async for piece in pieces:
                    content += piece
                    if len(content) > MAX_BYTES:
                        raise _InvalidJwks("too much")
        try:
            return msgspec.json.decode(content, type=dict[str, Any])
        except (ValueError, RecursionError):
            raise _InvalidJwks("no JSON object") from None


class _InvalidJwks(Exception):
    """The text says why, and repeats nothing of what came."""


def _iter_usable_keys(published: dict[str, Any]) -> Iterator[Key]:
    """Yield the keys that may verify tokens; of the others an issuer may publish as many as it likes.

    Never a symmetric one: a public key, taken for a shared secret, would let everybody sign.
    """
    keys = published.get("keys")
    for each in keys if isinstance(keys, list) else ():
        if isinstance(each, dict) and each.get("use", "sig") == "sig" and _is_strong(each):
            with suppress(JoseError, ValueError, TypeError, KeyError):
                yield JWKRegistry.import_key(each)


def _is_strong(key: dict[str, Any]) -> bool:
    return key.get("kty") == "EC" or (key.get("kty") == "RSA" and len(str(key.get("n"))) >= MIN_RSA_CHARACTERS)
