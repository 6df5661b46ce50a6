"""Who is let in: a key that was made here, the key of the settings, or a token of the issuer."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from hmac import compare_digest

import anyio
import msgspec

from bg_ingest.domain.credentials import ApiKey, Caller, Scope, digest_of, key_id
from bg_ingest.domain.grants import Secret
from bg_ingest.errors import StoreError, StoreUnavailable
from bg_ingest.ports import Clock, Keys, Tokens

FRESH, LAST = 12.0, 25.0
"""Seconds after which the keys are read again, and after which they are not believed without: a revoked key is
refused within 30 s everywhere, also where the store takes its time or is away."""

AGAIN = 2.0
"""Seconds: an id we do not know may be new and makes us look again, but not more often than this."""

NOTED_EVERY = timedelta(hours=1)


class Admission:
    """Knows all keys of the store, as they were some seconds ago: whoever sends wrong ones costs no read each."""

    def __init__(
        self, keys: Keys, clock: Clock, *, tokens: Tokens | None = None, bootstrap: Secret | None = None
    ) -> None:
        self._keys = keys
        self._clock = clock
        self._tokens = tokens
        self._bootstrap = bootstrap and _bootstrap_key(bootstrap, clock.now())
        self._known: Mapping[str, ApiKey] = {}
        self._read_at: float | None = None
        self._reading = anyio.Lock()
        self._tries = 0
        self._used: dict[str, datetime] = {}

    async def admit(self, credential: str) -> Caller | None:
        """Return who it is; None for what is unknown, wrong, expired or revoked, without a hint which.

        StoreUnavailable or IssuerUnavailable when that cannot be known.
        """
        identity = key_id(credential)
        if identity is not None:
            return await self._by_key(identity, digest_of(credential))
        if self._tokens is None:
            return None
        claims = await self._tokens.claims(credential)
        return claims.caller if claims else None

    async def asks_nobody(self) -> bool:
        """Tell whether there is no credential that anybody could have: no key was ever made, no issuer is set."""
        return self._tokens is None and self._bootstrap is None and not await self._keys_now()

    async def note_uses(self) -> None:
        """Write when keys were last used, an hour apart; what fails is written another time."""
        for identity, at in list(self._used.items()):
            await self._keys.note_used(identity, at)
            if identity in self._known:
                noted = msgspec.structs.replace(self._known[identity], used_at=at)
                self._known = {**self._known, identity: noted}
            self._used.pop(identity, None)

    async def _by_key(self, identity: str, digest: bytes) -> Caller | None:
        now = self._clock.now()
        if self._bootstrap and compare_digest(self._bootstrap.digest, digest):
            return self._bootstrap.caller
        key = (await self._keys_now(wanted=identity)).get(identity)
        if key is None or not key.opens(digest, now):
            return None
        if key.used_at is None or now - key.used_at >= NOTED_EVERY:
            self._used.setdefault(identity, now)
        return key.caller

    async def _keys_now(self, wanted: str | None = None) -> Mapping[str, ApiKey]:
        known, age = wanted is None or wanted in self._known, self._age()
        if age < (FRESH if known else AGAIN):
            return self._known
        if known and age < LAST and self._reading.locked():  # somebody reads them: others need not wait
            return self._known
        tries = self._tries
        async with self._reading:
            if tries == self._tries:  # nobody has asked while we waited
                await self._read()
        if self._age() >= LAST:
            raise StoreUnavailable
        return self._known

    async def _read(self) -> None:
        asked_at = anyio.current_time()
        with suppress(StoreError):
            self._known = {each.id: each for each in await self._keys.all()}
            self._read_at = asked_at
        self._tries += 1

    def _age(self) -> float:
        return float("inf") if self._read_at is None else anyio.current_time() - self._read_at


def _bootstrap_key(secret: Secret, now: datetime) -> ApiKey:
    """Return the key of the settings: good for everything and everybody, as long as it stands there."""
    text = secret.reveal()
    identity = key_id(text)
    if identity is None:
        raise ValueError("not the form of a key")
    return ApiKey(id=identity, name="API_BOOTSTRAP_KEY", digest=digest_of(text), scopes=frozenset(Scope), made_at=now)
