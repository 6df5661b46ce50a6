"""Permission of a user to read data at a provider, and the rules of its renewal."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Generic, NoReturn, TypeVar

import msgspec

from bg_ingest.domain.ids import ConnectionId

CLAIM_STALE_AFTER = timedelta(seconds=60)
"""A claim (``Grant.claim``) is stale once a waiting process has seen it unchanged for this long on its own clock. The
process that wrote the claim then counts as dead."""

CLAIM_SEND_TIMEOUT = timedelta(seconds=20)
"""Maximum age of a claim when its refresh token is sent. Another process may soon treat an older claim as stale."""

REFRESH_DEADLINE = timedelta(seconds=30)
"""Timeout of the whole refresh request. Slow answers are normal, and a timeout before the answer may end the grant."""

IDLE_REFRESH_AFTER = timedelta(days=20)
"""Age at which an unused refresh token is renewed. Its lifetime is unknown and assumed to be at least a month."""

REFUSAL_RETRY_DELAYS = (timedelta(minutes=10), timedelta(hours=1), timedelta(hours=4), timedelta(hours=12))
"""Wait after each refusal of a refresh token before it is sent again. Dexcom is known to have refused healthy tokens
for an hour in the night (Tidepool, 2018). A refusal after the last of these waits is final."""


def refusal_wait(refusals: int) -> timedelta:
    """Return the wait after this number of consecutive refusals."""
    return REFUSAL_RETRY_DELAYS[min(refusals, len(REFUSAL_RETRY_DELAYS)) - 1]


Value = TypeVar("Value")


class _Hidden(Generic[Value]):
    """Value that cannot be printed, pickled or serialised by accident."""

    __slots__ = ("_value",)

    def __init__(self, value: Value) -> None:
        self._value = value

    def reveal(self) -> Value:
        """Return the value itself. Only code that sends or seals the value calls this."""
        return self._value

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")

    __getstate__ = __reduce__


class Secret(_Hidden[str]):
    """Secret string, such as a token."""

    __slots__ = ()


class SecretBytes(_Hidden[bytes]):
    """Secret bytes, such as the content of credentials."""

    __slots__ = ()


class Renewal(StrEnum):
    """Way in which credentials are replaced by their successors."""

    SINGLE_USE = "single_use"
    """The refresh token is single-use: a second use may end the grant. Only the holder of the claim renews."""
    REPEATABLE = "repeatable"
    """The old credentials can be renewed repeatedly: no claim is needed, and a lost answer costs one more renewal."""
    NONE = "none"
    """The credentials have no successor."""


class Credentials(msgspec.Struct, frozen=True):
    """Credentials of one connection. Only their provider reads the content."""

    content: SecretBytes
    """Sealed and stored as it is; the provider derives the other fields from it."""
    expires_at: datetime | None = None
    """Instant after which data calls are refused; None if unknown."""
    renewal: Renewal = Renewal.NONE

    def is_due(self, now: datetime, jitter: float) -> bool:
        """Return True if the credentials must be renewed before the next call.

        Credentials become due 60 to 120 seconds before their expiry, spread by connection.
        """
        return self.expires_at is not None and now >= self.expires_at - timedelta(seconds=60 + 60 * jitter)


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """Sealed credentials as stored. ``version`` counts token pairs; ``generation`` identifies the connect."""

    id: ConnectionId
    generation: str
    version: int
    sealed: bytes
    refreshed_at: datetime
    claim: str | None = None
    """Only the process that wrote this may send the refresh token; others must wait until the claim is stale."""
    refusals: int = 0
    """Consecutive refusals of this version's refresh token."""
    retry_at: datetime | None = None
    """Time before which a refused token is not sent again."""

    @property
    def is_exhausted(self) -> bool:
        """True after the last planned retry was refused."""
        return self.refusals > len(REFUSAL_RETRY_DELAYS)

    @property
    def refused_at(self) -> datetime | None:
        """Time of the last refusal; None if there was none since the last renewal or successful use."""
        return None if self.retry_at is None else self.retry_at - refusal_wait(self.refusals)

    def associated_data(self, table: str) -> bytes:
        """Return the associated data of the encryption. It binds the sealed credentials to their row."""
        return msgspec.json.encode([table, self.id.user, self.id.provider, "grant", self.generation])
