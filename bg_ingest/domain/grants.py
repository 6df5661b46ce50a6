"""Permission of a user to read data at a provider, and the rules of its renewal."""

from datetime import datetime, timedelta
from typing import NoReturn

import msgspec

from bg_ingest.domain.ids import ConnectionId

CLAIM_STALE_AFTER = timedelta(seconds=60)
"""A claim unchanged for this long on our own clock belongs to a dead process."""

CLAIM_SEND_TIMEOUT = timedelta(seconds=20)
"""An older claim is given up just before sending, because another process may soon treat it as stale."""

REFRESH_DEADLINE = timedelta(seconds=30)
"""Limit of the whole refresh request. Slow answers are normal, and a cut-off answer may lose the grant."""

IDLE_REFRESH_AFTER = timedelta(days=20)
"""The lifetime of a refresh token is unknown: even an unused one is renewed before a month is over."""

REFUSAL_RETRY_DELAYS = (timedelta(minutes=10), timedelta(hours=1), timedelta(hours=4), timedelta(hours=12))
"""Wait after each refusal of a refresh token before it is sent again. Dexcom is known to have refused healthy tokens
for an hour in the night (Tidepool, 2018). A refusal after the last of these waits is final."""


class Secret:
    """String that cannot be printed, pickled or serialised by accident."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the string itself. Only code that sends or seals it calls this."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")

    __getstate__ = __reduce__


class Credentials(msgspec.Struct, frozen=True):
    """One pair of tokens, as issued by the provider."""

    access: Secret
    refresh: Secret
    expires_at: datetime
    """End of the access token."""

    def is_fresh(self, now: datetime, jitter: float) -> bool:
        """Return True while the access token may be used: not in its last 60 to 120 seconds, spread by connection."""
        return now < self.expires_at - timedelta(seconds=60 + 60 * jitter)


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
