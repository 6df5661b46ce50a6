"""Who is let in: a key that was made here, the key of the settings, or a token of the issuer."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from hmac import compare_digest

import anyio
import msgspec

from bg_ingest.domain.access import ApiKey, Caller, Scope, hash_key, parse_key_id
from bg_ingest.domain.grants import Secret
from bg_ingest.errors import StoreError, StoreUnavailable
from bg_ingest.ports import Clock, TokenVerifier
from bg_ingest.store.api_keys import ApiKeyStore

REFRESH_AFTER, MAX_AGE = 12.0, 25.0
"""Seconds after which the keys are read again, and after which they are not believed without: a revoked key is
refused within 30 s everywhere, also where the store takes its time or is away."""

RETRY_SECONDS = 2.0
"""Seconds: an id we do not know may be new and makes us look again, but not more often than this."""

KEY_USE_INTERVAL = timedelta(hours=1)


class Authenticator:
    """Knows all keys of the store, as they were some seconds ago: whoever sends wrong ones costs no read each."""

    def __init__(
        self,
        keys: ApiKeyStore,
        clock: Clock,
        *,
        token_verifier: TokenVerifier | None = None,
        bootstrap: Secret | None = None,
    ) -> None:
        self._keys = keys
        self._clock = clock
        self._token_verifier = token_verifier
        self._bootstrap = bootstrap and _parse_bootstrap_key(bootstrap, clock.now())
        self._cached_keys: Mapping[str, ApiKey] = {}
        self._read_at: float | None = None
        self._read_lock = anyio.Lock()
        self._read_attempts = 0
        self._unwritten_uses: dict[str, datetime] = {}

    async def authenticate(self, credential: str) -> Caller | None:
        """Return who it is; None for what is unknown, wrong, expired or revoked, without a hint which.

        StoreUnavailable or IssuerUnavailable when that cannot be known.
        """
        identity = parse_key_id(credential)
        if identity is not None:
            return await self._authenticate_key(identity, hash_key(credential))
        if self._token_verifier is None:
            return None
        claims = await self._token_verifier.verify(credential)
        return claims.caller if claims else None

    async def is_open(self) -> bool:
        """Tell whether there is no credential that anybody could have: no key was ever made, no issuer is set."""
        return self._token_verifier is None and self._bootstrap is None and not await self._current_keys()

    async def write_key_uses(self) -> None:
        """Write the last use of each key, at most once an hour.

        Uses that the store does not take wait for the next call.
        """
        with suppress(StoreError):
            for identity, at in list(self._unwritten_uses.items()):
                await self._keys.set_last_used(identity, at)
                if identity in self._cached_keys:
                    updated = msgspec.structs.replace(self._cached_keys[identity], used_at=at)
                    self._cached_keys = {**self._cached_keys, identity: updated}
                self._unwritten_uses.pop(identity, None)

    async def _authenticate_key(self, identity: str, digest: bytes) -> Caller | None:
        now = self._clock.now()
        if self._bootstrap and compare_digest(self._bootstrap.digest, digest):
            return self._bootstrap.caller
        key = (await self._current_keys(required_id=identity)).get(identity)
        if key is None or not key.matches(digest, now):
            return None
        if key.used_at is None or now - key.used_at >= KEY_USE_INTERVAL:
            self._unwritten_uses.setdefault(identity, now)
        return key.caller

    async def _current_keys(self, required_id: str | None = None) -> Mapping[str, ApiKey]:
        is_cached, age = required_id is None or required_id in self._cached_keys, self._age()
        if age < (REFRESH_AFTER if is_cached else RETRY_SECONDS):
            return self._cached_keys
        if is_cached and age < MAX_AGE and self._read_lock.locked():  # somebody reads them: others need not wait
            return self._cached_keys
        attempts = self._read_attempts
        async with self._read_lock:
            if attempts == self._read_attempts:  # nobody has asked while we waited
                await self._read_keys()
        if self._age() >= MAX_AGE:
            raise StoreUnavailable
        return self._cached_keys

    async def _read_keys(self) -> None:
        started_at = anyio.current_time()
        with suppress(StoreError):
            self._cached_keys = {each.id: each for each in await self._keys.read_all()}
            self._read_at = started_at
        self._read_attempts += 1

    def _age(self) -> float:
        return float("inf") if self._read_at is None else anyio.current_time() - self._read_at


def _parse_bootstrap_key(secret: Secret, now: datetime) -> ApiKey:
    """Return the key of the settings: good for everything and everybody, as long as it stands there."""
    text = secret.reveal()
    identity = parse_key_id(text)
    if identity is None:
        raise ValueError("not the form of a key")
    return ApiKey(id=identity, name="API_BOOTSTRAP_KEY", digest=hash_key(text), scopes=frozenset(Scope), made_at=now)
