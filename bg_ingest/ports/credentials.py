"""What we need to know who asks."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from bg_ingest.domain.access import ApiKey, TokenClaims
from bg_ingest.domain.ids import UserId


class Keys(Protocol):
    """API keys; some hundreds, so that a process can know all of them."""

    async def read_all(self) -> Sequence[ApiKey]:
        """Return every key, also those that no longer let in."""

    async def add(self, key: ApiKey) -> None:
        """Keep a new key; Outdated when its id is taken."""

    async def revoke(self, key_id: str, at: datetime) -> bool:
        """Let it never in again; False when there is no such key. A second time changes nothing."""

    async def set_last_used(self, key_id: str, at: datetime) -> None:
        """Write when it was last used, if it is still there."""

    async def remove_user(self, user: UserId) -> int:
        """Take a user off the lists of all keys, and return on how many they were; done again, it finds none.

        A key whose list gets empty lets in for nobody.
        """


class TokenVerifier(Protocol):
    """The JWTs of one issuer."""

    async def verify(self, token: str) -> TokenClaims | None:
        """Return what a token says, if the issuer has signed it, for us, and it holds now; else None.

        IssuerUnavailable when the issuer's keys cannot be had.
        """
