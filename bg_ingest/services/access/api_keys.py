"""API keys: creation, listing, revocation."""

from collections.abc import Collection, Sequence
from datetime import datetime
from secrets import choice, token_urlsafe
from string import ascii_lowercase, digits
from typing import NamedTuple

from bg_ingest.domain.access import ApiKey, Scope, hash_key
from bg_ingest.domain.grants import Secret
from bg_ingest.domain.ids import UserId
from bg_ingest.errors import NotFound
from bg_ingest.ports import Clock
from bg_ingest.store.api_keys import ApiKeyStore

ID_LENGTH = 12


class CreatedKey(NamedTuple):
    """A new key and its text, which is not stored and cannot be shown again."""

    key: ApiKey
    text: Secret


class ApiKeys:
    """Administration of API keys."""

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
        """Create a key for these scopes, and for these users or (None) for all."""
        identity = "".join(choice(ascii_lowercase + digits) for _ in range(ID_LENGTH))
        text = f"bgi_{identity}_{token_urlsafe(32)}"
        key = ApiKey(
            id=identity,
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

    async def revoke(self, identity: str) -> None:
        """Revoke a key, with effect on every replica within 30 s. Raise NotFound if there is none."""
        if not await self._keys.revoke(identity, self._clock.now()):
            raise NotFound("There is no such key: its id is the part between bgi_ and the next _.")
