"""What a user allowed us to read, and when it must be renewed."""

from datetime import datetime, timedelta
from typing import NoReturn

import msgspec

from bg_ingest.domain.ids import ConnectionId

CLAIM_STALE_AFTER = timedelta(seconds=60)
"""A claim that stood still this long on our own clock belongs to a process that died."""

CLAIM_SEND_TIMEOUT = timedelta(seconds=20)
"""A claim older than this is given up just before sending: someone may soon think it stale."""

REFRESH_DEADLINE = timedelta(seconds=30)
"""For the whole refresh request. Slow answers are normal, and cutting one off may lose the grant."""

IDLE_REFRESH_AFTER = timedelta(days=20)
"""How long a refresh token lives is not known: even an unused one is renewed before a month is over."""

REFUSAL_RETRY_DELAYS = (timedelta(minutes=10), timedelta(hours=1), timedelta(hours=4), timedelta(hours=12))
"""When a refused token is tried again, after each refusal. Dexcom is known to have refused healthy ones for an
hour in the night (Tidepool, 2018); a refusal after the last of these waits is believed."""


class Secret:
    """A string that cannot be printed, pickled or serialised by accident."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the string itself, at the place that sends or seals it."""
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
    """One pair of tokens, as the provider gave it."""

    access: Secret
    refresh: Secret
    expires_at: datetime
    """When the access token ends."""

    def is_fresh(self, now: datetime, jitter: float) -> bool:
        """Whether the access token may still be used: not in its last 60 to 120 seconds, spread by connection."""
        return now < self.expires_at - timedelta(seconds=60 + 60 * jitter)


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """Credentials as stored: sealed. ``version`` counts token pairs, ``generation`` is the connect it came from."""

    id: ConnectionId
    generation: str
    version: int
    sealed: bytes
    refreshed_at: datetime
    claim: str | None = None
    """Whoever wrote this may send the refresh token; nobody else may until it has stood still."""
    refusals: int = 0
    """How often in a row the provider refused this version's refresh token."""
    retry_at: datetime | None = None
    """Not before then is a refused token sent again."""

    @property
    def is_exhausted(self) -> bool:
        """Whether the plan of retries is over."""
        return self.refusals > len(REFUSAL_RETRY_DELAYS)

    def associated_data(self, table: str) -> bytes:
        """What a sealed grant is bound to: moved to another row, it does not open."""
        return msgspec.json.encode([table, self.id.user, self.id.provider, "grant", self.generation])
