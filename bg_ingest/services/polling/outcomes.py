"""What an expected error makes of a turn."""

from bg_ingest.domain.polling import Outcome
from bg_ingest.errors import (
    Fenced,
    GrantBusy,
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
