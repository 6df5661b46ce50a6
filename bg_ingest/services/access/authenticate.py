"""Authentication by stored API keys, the bootstrap key or a token of the issuer; administration of API keys."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from hmac import compare_digest
from secrets import choice, token_urlsafe
from string import ascii_lowercase, digits
from typing import NamedTuple

import anyio
from msgspec.structs import replace

from bg_ingest.domain.access import ApiKey, Caller, Scope, hash_key, parse_key_id
from bg_ingest.domain.grants import Secret
from bg_ingest.domain.ids import UserId
from bg_ingest.errors import NotFound, StoreError, StoreUnavailable
from bg_ingest.ports import Clock, TokenVerifier
from bg_ingest.store.api_keys import ApiKeyStore

REFRESH_AFTER, MAX_AGE = 12.0, 25.0
"""Ages of the copy of the keys, in seconds: from the first on, it is read again; from the second on, it is not used. A
revoked key is refused within 30 s by every replica, even if the store is slow or unreachable."""

RETRY_SECONDS = 2.0
"""Shortest time between two reads that are caused by an unknown or wrong key, because it may be new."""


_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_NO_KEY = ApiKey(id="", name="", digest=bytes(32), scopes=frozenset(), made_at=_LONG_AGO, revoked_at=_LONG_AGO)
"""Stands in for an unknown id, so that the same work is done for it as for a known one. It matches nothing."""


class Authenticator:
    """Authenticates callers by a copy of all keys in memory, which is some seconds old.

    Wrong keys therefore cause at most one read of the store in `RETRY_SECONDS`.
    """

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
        """Return the caller; None for an unknown, wrong, expired or revoked credential, without a distinction.

        Raise StoreUnavailable or IssuerUnavailable if the credential cannot be checked.
        """
        key_id = parse_key_id(credential)
        if key_id is not None:
            return await self._authenticate_key(key_id, hash_key(credential))
        if self._token_verifier is None:
            return None
        claims = await self._token_verifier.verify(credential)
        return claims.caller if claims else None

    async def is_open(self) -> bool:
        """Return True if no credential can exist, because no key was ever created and no issuer is set."""
        return self._token_verifier is None and self._bootstrap is None and not await self._current_keys(REFRESH_AFTER)

    async def write_key_uses(self) -> None:
        """Write the uses of keys since the last call, at most one per key and hour.

        Uses whose write fails are written by the next call.
        """
        with suppress(StoreError):
            for key_id, at in list(self._unwritten_uses.items()):
                await self._keys.set_last_used(key_id, at)
                if key_id in self._cached_keys:
                    updated = replace(self._cached_keys[key_id], used_at=at)
                    self._cached_keys = {**self._cached_keys, key_id: updated}
                self._unwritten_uses.pop(key_id, None)

    async def _authenticate_key(self, key_id: str, digest: bytes) -> Caller | None:
        now = self._clock.now()
        if self._bootstrap and compare_digest(self._bootstrap.digest, digest):
            return self._bootstrap.caller
        key = (await self._current_keys(REFRESH_AFTER)).get(key_id, _NO_KEY)
        if not key.matches(digest, now):
            # The key may be new. A known id is treated alike, because the response time would otherwise reveal it.
            key = (await self._current_keys(RETRY_SECONDS)).get(key_id, _NO_KEY)
        if not key.matches(digest, now):
            return None
        if key.used_at is None or now - key.used_at >= timedelta(hours=1):
            self._unwritten_uses.setdefault(key_id, now)
        return key.caller

    async def _current_keys(self, max_age: float) -> Mapping[str, ApiKey]:
        """Return the keys, read again if they are older than ``max_age``.

        While another task reads them, a call with REFRESH_AFTER returns the copy at once, unless it is older
        than MAX_AGE. A call with RETRY_SECONDS waits for the read, because no key of the copy matches.
        """
        age = self._age()
        if age < max_age or (max_age == REFRESH_AFTER and age < MAX_AGE and self._read_lock.locked()):
            return self._cached_keys
        attempts = self._read_attempts
        async with self._read_lock:
            if attempts == self._read_attempts:  # no other task read them during the wait
                await self._read_keys()
        if self._age() >= MAX_AGE:
            raise StoreUnavailable
        return self._cached_keys

    async def _read_keys(self) -> None:
        started_at = anyio.current_time()
        with suppress(StoreError):
            self._cached_keys = {key.id: key for key in await self._keys.read_all()}
            self._read_at = started_at
        self._read_attempts += 1

    def _age(self) -> float:
        return float("inf") if self._read_at is None else anyio.current_time() - self._read_at


def _parse_bootstrap_key(secret: Secret, now: datetime) -> ApiKey:
    """Return the key of the settings, which has all scopes for all users as long as it is set."""
    text = secret.reveal()
    key_id = parse_key_id(text)
    if key_id is None:
        raise ValueError("not the form of a key")
    return ApiKey(id=key_id, name="API_BOOTSTRAP_KEY", digest=hash_key(text), scopes=frozenset(Scope), made_at=now)


class CreatedKey(NamedTuple):
    """A new key and its text, which is not stored and cannot be shown again."""

    key: ApiKey
    text: Secret


class ApiKeys:
    def __init__(self, keys: ApiKeyStore, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock

    async def create(
        self,
        name: str,
        scopes: Collection[Scope],
        *,
        users: Collection[UserId] | None = None,
        ends_at: datetime | None = None,
    ) -> CreatedKey:
        """Create a key for these scopes. It is limited to ``users``, or valid for all users if that is None."""
        key_id = "".join(choice(ascii_lowercase + digits) for _ in range(12))
        text = f"bgi_{key_id}_{token_urlsafe(32)}"
        key = ApiKey(
            id=key_id,
            name=name,
            digest=hash_key(text),
            scopes=frozenset(scopes),
            users=None if users is None else frozenset(users),
            made_at=self._clock.now(),
            ends_at=ends_at,
        )
        await self._keys.add(key)
        return CreatedKey(key, Secret(text))

    async def list(self) -> Sequence[ApiKey]:
        """Return all keys, the oldest first, expired and revoked ones included."""
        return sorted(await self._keys.read_all(), key=lambda key: key.made_at)

    async def revoke(self, key_id: str) -> None:
        """Revoke a key, with effect on every replica within 30 s. Raise NotFound if no key has this id."""
        if not await self._keys.revoke(key_id, self._clock.now()):
            raise NotFound("There is no such key: its id is the part between bgi_ and the next _.")
