"""Permission of a user to read data at a provider, and the rules of its renewal."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Generic, NoReturn, TypeVar

import msgspec

from bg_ingest.domain.ids import ConnectionId

CLAIM_STALE_AFTER = timedelta(seconds=60)
"""A claim that is unchanged for this long, on the observer's clock, belongs to a dead process."""

CLAIM_SEND_TIMEOUT = timedelta(seconds=20)
"""An older claim is given up just before sending, because another process may soon treat it as stale."""

REFRESH_DEADLINE = timedelta(seconds=30)
"""Limit of the whole refresh request. Slow answers are normal, and a cut-off answer may lose the grant."""

IDLE_REFRESH_AFTER = timedelta(days=20)
"""The lifetime of a refresh token is unknown: even an unused one is renewed before a month is over."""

REFUSAL_RETRY_DELAYS = (timedelta(minutes=10), timedelta(hours=1), timedelta(hours=4), timedelta(hours=12))
"""Wait after each refusal of a refresh token before it is sent again. Dexcom is known to have refused healthy tokens
for an hour in the night (Tidepool, 2018). A refusal after the last of these waits is final."""

Value = TypeVar("Value")


class _Hidden(Generic[Value]):
    """Value that cannot be printed, pickled or serialised by accident."""

    __slots__ = ("_value",)

    def __init__(self, value: Value) -> None:
        self._value = value

    def reveal(self) -> Value:
        """Return the value itself. Only code that sends or seals it calls this."""
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
    """A renewal spends the old credentials: sent twice, they may end the grant. Only the holder of a claim renews."""
    REPEATABLE = "repeatable"
    """The old credentials renew any number of times: no claim is needed, and a lost answer costs one more renewal."""
    NONE = "none"
    """The credentials have no successor."""


class Credentials(msgspec.Struct, frozen=True):
    """Credentials of one connection. Only their provider reads the content."""

    content: SecretBytes
    """Sealed and stored as it is; the provider derives the other fields from it."""
    expires_at: datetime | None = None
    """Instant after which data calls are refused; None where none is known."""
    renewal: Renewal = Renewal.NONE

    def is_due(self, now: datetime, jitter: float) -> bool:
        """Return True when a renewal precedes the next call: in the last 60 to 120 seconds, spread by connection."""
        return self.expires_at is not None and now >= self.expires_at - timedelta(seconds=60 + 60 * jitter)


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """Credentials as stored: sealed. ``version`` counts token pairs, ``generation`` is the connect of the grant."""

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
    """A refused token is not sent again before this."""

    @property
    def is_exhausted(self) -> bool:
        """True after the last planned retry was refused."""
        return self.refusals > len(REFUSAL_RETRY_DELAYS)

    def associated_data(self, table: str) -> bytes:
        """Return the context to which a grant is sealed: in another row it does not open."""
        return msgspec.json.encode([table, self.id.user, self.id.provider, "grant", self.generation])
