"""Outcome of a poll after an expected error, and the time of the retry."""

from datetime import datetime, timedelta

from bg_ingest.domain.polling import Outcome
from bg_ingest.domain.schedule import next_retry
from bg_ingest.errors import (
    Fenced,
    GrantBusy,
    GrantError,
    GrantLost,
    GrantRefused,
    IngestError,
    ProviderForbidden,
    ProviderMisbehaved,
    ProviderThrottled,
    ProviderUnavailable,
    SealBroken,
    StoreUnavailable,
)

THROTTLED_WAIT = timedelta(minutes=1)
"""Default if the provider gives no time."""

FORBIDDEN_WAIT = timedelta(hours=6)
"""Only an operator can remove the cause. A later retry then succeeds."""

OUTCOMES: dict[type[IngestError], Outcome] = {
    GrantBusy: Outcome.GRANT_BUSY,
    GrantRefused: Outcome.REFUSED,
    GrantLost: Outcome.REFUSED,
    ProviderThrottled: Outcome.THROTTLED,
    ProviderUnavailable: Outcome.UNAVAILABLE,
    ProviderMisbehaved: Outcome.MISBEHAVED,
    ProviderForbidden: Outcome.FORBIDDEN,
    StoreUnavailable: Outcome.STORE_UNAVAILABLE,
    SealBroken: Outcome.UNSEALABLE,
    Fenced: Outcome.FENCED,
}


def outcome_of(error: IngestError) -> Outcome:
    return next((outcome for kind, outcome in OUTCOMES.items() if isinstance(error, kind)), Outcome.STORE_UNAVAILABLE)


def retry_at(error: IngestError, now: datetime, *, jitter: float, failures: int, slot: datetime | None) -> datetime:
    """Return the time of the retry: the error's own wait, else a backoff by consecutive failures and the next slot.

    The wait of a throttled poll is up to a quarter longer by the connection's jitter, so that retries are spread.
    """
    if isinstance(error, GrantError) and error.wait:
        return now + error.wait
    if isinstance(error, ProviderThrottled):
        return now + (error.wait or THROTTLED_WAIT) * (1 + jitter / 4)
    if isinstance(error, ProviderForbidden):
        return now + FORBIDDEN_WAIT
    return next_retry(failures, now, slot)
