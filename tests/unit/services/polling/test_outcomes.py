"""Outcomes of expected errors, and the times of their retries."""

from datetime import timedelta

import pytest

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
    StoreError,
    StoreUnavailable,
)
from bg_ingest.services.polling.outcomes import outcome_of, retry_at
from tests.fakes.clock import NOON

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
SLOT = NOON + 15 * MINUTE


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (GrantBusy(), Outcome.GRANT_BUSY),
        (GrantRefused(), Outcome.REFUSED),
        (GrantLost(), Outcome.REFUSED),
        (ProviderThrottled(), Outcome.THROTTLED),
        (ProviderUnavailable(), Outcome.UNAVAILABLE),
        (ProviderMisbehaved(), Outcome.MISBEHAVED),
        (ProviderForbidden(), Outcome.FORBIDDEN),
        (StoreUnavailable(), Outcome.STORE_UNAVAILABLE),
        (SealBroken(), Outcome.UNSEALABLE),
        (Fenced(), Outcome.FENCED),
        (StoreError(), Outcome.STORE_UNAVAILABLE),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_expected_error_has_an_outcome(error: IngestError, outcome: Outcome) -> None:
    assert outcome_of(error) is outcome


@pytest.mark.parametrize(
    ("error", "jitter", "wait"),
    [
        (GrantRefused(HOUR), 0.5, HOUR),
        (ProviderThrottled(2 * MINUTE), 0.0, 2 * MINUTE),
        (ProviderThrottled(2 * MINUTE), 1.0, 2.5 * MINUTE),
        (ProviderThrottled(), 0.0, MINUTE),
        (ProviderForbidden(), 0.5, 6 * HOUR),
        (ProviderUnavailable(), 0.5, 4 * SECOND),
        (GrantRefused(), 0.5, 4 * SECOND),
    ],
)
def test_a_retry_follows_the_error_or_the_number_of_failures(
    error: IngestError, jitter: float, wait: timedelta
) -> None:
    assert retry_at(error, NOON, jitter=jitter, failures=2, slot=SLOT) == NOON + wait


def test_after_fast_retries_the_slot_is_next() -> None:
    assert retry_at(ProviderUnavailable(), NOON, jitter=0.5, failures=5, slot=SLOT) == SLOT
