"""What an expected error makes of a turn."""

from bg_ingest.domain.outcomes import Ending
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
    StoreUnavailable,
    Unsealable,
)

ENDINGS: dict[type[IngestError], Ending] = {
    GrantBusy: Ending.GRANT_BUSY,
    GrantRefused: Ending.REFUSED,
    GrantLost: Ending.REFUSED,
    ProviderThrottled: Ending.THROTTLED,
    ProviderUnavailable: Ending.UNAVAILABLE,
    ProviderMisbehaved: Ending.MISBEHAVED,
    ProviderForbidden: Ending.FORBIDDEN,
    StoreUnavailable: Ending.STORE_UNAVAILABLE,
    Unsealable: Ending.UNSEALABLE,
    Fenced: Ending.FENCED,
}


def ending_for(error: IngestError) -> Ending:
    return next((ending for kind, ending in ENDINGS.items() if isinstance(error, kind)), Ending.STORE_UNAVAILABLE)
