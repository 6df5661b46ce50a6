"""Problems of the service reveal no internal detail."""

from datetime import timedelta
from typing import Any

import pytest
import structlog.testing

from bg_ingest.errors import (
    BrokerError,
    Conflict,
    Fenced,
    GrantBusy,
    GrantLost,
    GrantRefused,
    GrantRejected,
    IngestError,
    ItemTooLarge,
    KeyUnavailable,
    ProviderForbidden,
    ProviderMisbehaved,
    ProviderThrottled,
    ProviderUnavailable,
    SealBroken,
    StaleRead,
    StoreError,
    StoreUnavailable,
    TransactionConflict,
)
from tests.harness.api import ApiHarness, reading
from tests.unit.api.test_validation import assert_problem


class FailingConnector:
    """Fails with the error that the test sets."""

    def __init__(self, failure: Exception) -> None:
        self.failure = failure

    async def begin(self, *_: object, **__: object) -> Any:
        raise self.failure


async def get_failure(api: ApiHarness, failure: Exception) -> Any:
    api.replace_services(connector=FailingConnector(failure))
    return await api.http.post("/api/users/ada/connections/acme", headers={"X-Request-Id": "call-7"})


@pytest.mark.parametrize(
    ("failure", "status", "slug", "retry_after"),
    [
        (StoreUnavailable("SECRET"), 503, "store-unavailable", "5"),
        (StoreError("SECRET"), 503, "store-unavailable", "5"),
        (StaleRead("SECRET"), 503, "store-unavailable", "5"),
        (TransactionConflict("SECRET"), 503, "store-unavailable", "5"),
        (Fenced("SECRET"), 503, "store-unavailable", "5"),
        (ProviderThrottled(timedelta(seconds=90)), 503, "provider-throttled", "90"),
        (ProviderThrottled(), 503, "provider-throttled", "60"),
        (ProviderUnavailable("SECRET"), 503, "provider-unavailable", "60"),
        (ProviderMisbehaved("SECRET"), 502, "provider-misbehaved", None),
        (ItemTooLarge("SECRET"), 413, "too-large", None),
        (ProviderForbidden("SECRET"), 502, "provider-forbidden", None),
        (GrantRejected("SECRET"), 409, "grant-rejected", None),
        (GrantBusy(timedelta(seconds=1.2)), 503, "provider-unavailable", "2"),
        (GrantRefused(timedelta(hours=4)), 409, "grant-rejected", "14400"),
        (GrantLost(), 409, "grant-rejected", None),
        (Conflict("Resume the connection first: set paused to false."), 409, "not-possible", None),
        (RuntimeError("SECRET"), 500, "internal-error", None),
    ],
)
async def test_f20_s18_each_failure_has_its_problem(
    api: ApiHarness, failure: Exception, status: int, slug: str, retry_after: str | None
) -> None:
    answer = await get_failure(api, failure)
    assert_problem(answer, status, slug)
    assert answer.headers.get("retry-after") == retry_after
    assert answer.headers["cache-control"] == "no-store"
    assert "SECRET" not in answer.text
    assert "Traceback" not in answer.text


OPERATORS_ERRORS = (KeyUnavailable, SealBroken, BrokerError)
"""Errors that no request may cause: the keys are the operator's, and the broker is used by actors."""


def subclasses(kind: type[IngestError]) -> set[type[IngestError]]:
    return {kind, *(found for sub in kind.__subclasses__() for found in subclasses(sub))}


@pytest.mark.parametrize("kind", sorted(subclasses(IngestError), key=str))
async def test_s12_every_error_of_a_request_has_its_problem(api: ApiHarness, kind: type[IngestError]) -> None:
    failure = kind.__new__(kind)
    facts = {"wait": timedelta(seconds=1), "first_kept": 2, "last": 3, "limit": 4, "of_credential": True}
    failure.__dict__.update(facts)
    answer = await get_failure(api, failure)
    assert (answer.status_code == 500) is (kind is IngestError or issubclass(kind, OPERATORS_ERRORS)), kind


async def test_a_surprise_is_logged_under_the_request_without_what_was_sent(api: ApiHarness) -> None:
    with structlog.testing.capture_logs() as logs:
        answer = await get_failure(api, RuntimeError("SECRET of ada: 110 mg/dL"))
    assert "call-7" in answer.json()["detail"]
    (line,) = logs
    assert (line["event"], line["request_id"], line["error"]) == ("request_failed", "call-7", "RuntimeError")
    assert line["route"] == "/api/users/{user_id}/connections/{provider}"
    assert any("test_problems.py" in frame for frame in line["where"])
    for secret in ("SECRET", "ada", "110"):
        assert secret not in str({**line, "where": ""})


@pytest.mark.parametrize("path", ["/api/bg/ada/latest", "/api/bg/ada?from=2026-03-01", "/api/bg/ada%0A", "/nowhere"])
async def test_what_is_answered_is_not_logged(api: ApiHarness, path: str) -> None:
    await api.add_readings(reading(-1))
    with structlog.testing.capture_logs() as logs:
        await api.http.get(path)
    assert logs == []
