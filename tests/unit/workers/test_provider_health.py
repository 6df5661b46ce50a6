"""A provider is degraded after five polls without an answer, until the next answer."""

import pytest

from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.polling import Outcome
from workers.provider_health import ANSWERED_OUTCOMES, FAILURE_LIMIT, NO_USABLE_ANSWER, ProviderHealth

ADA, BEN = ConnectionId(UserId("ada"), "acme"), ConnectionId(UserId("ben"), "acme")
OTHER = ConnectionId(UserId("ada"), "other")


@pytest.fixture
def health() -> ProviderHealth:
    return ProviderHealth()


def fail(health: ProviderHealth, times: int) -> None:
    for number in range(times):
        health.record((ADA, BEN)[number % 2], Outcome.UNAVAILABLE)


def test_failures_of_all_connections_of_a_provider_add_up(health: ProviderHealth) -> None:
    fail(health, FAILURE_LIMIT - 1)
    assert health.degraded_providers == []
    fail(health, 1)
    assert health.degraded_providers == ["provider:acme:unavailable"]


def test_the_last_failure_is_shown(health: ProviderHealth) -> None:
    fail(health, FAILURE_LIMIT)
    health.record(ADA, Outcome.MISBEHAVED)
    assert health.degraded_providers == ["provider:acme:misbehaved"]


@pytest.mark.parametrize("outcome", sorted(ANSWERED_OUTCOMES))
def test_any_answer_ends_the_count(health: ProviderHealth, outcome: Outcome) -> None:
    fail(health, FAILURE_LIMIT)
    health.record(BEN, outcome)
    assert health.degraded_providers == []
    fail(health, FAILURE_LIMIT - 1)
    assert health.degraded_providers == []


@pytest.mark.parametrize("outcome", sorted(set(Outcome) - ANSWERED_OUTCOMES - NO_USABLE_ANSWER))
def test_an_outcome_that_does_not_concern_the_provider_changes_nothing(
    health: ProviderHealth, outcome: Outcome
) -> None:
    fail(health, FAILURE_LIMIT - 1)
    health.record(ADA, outcome)
    assert health.degraded_providers == []
    fail(health, 1)
    assert health.degraded_providers == ["provider:acme:unavailable"]


def test_providers_are_counted_apart(health: ProviderHealth) -> None:
    fail(health, FAILURE_LIMIT)
    health.record(OTHER, Outcome.READ)
    assert health.degraded_providers == ["provider:acme:unavailable"]
