"""Statuses of Dexcom's API, each as the error named after the next action."""

from datetime import timedelta

import httpx
import pytest

from bg_ingest.errors import (
    GrantRejected,
    ProviderBlocked,
    ProviderError,
    ProviderMisbehaved,
    ProviderThrottled,
    ProviderUnavailable,
)
from bg_ingest.providers.dexcom.wire import read_body
from tests.fakes.clock import NOON


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, GrantRejected),
        (403, ProviderBlocked),
        (429, ProviderThrottled),
        *((status, ProviderUnavailable) for status in (408, 500, 502, 503, 504, 520)),
        *((status, ProviderMisbehaved) for status in (204, 206, 302, 400, 404, 413, 418)),
    ],
)
def test_a_status_names_what_to_do(status: int, error: type[ProviderError]) -> None:
    with pytest.raises(ProviderError) as raised:
        read_body(httpx.Response(status, text="secret words"), NOON)
    assert type(raised.value) is error
    assert "secret" not in str(raised.value)


def test_a_200_is_its_body() -> None:
    assert read_body(httpx.Response(200, content=b"it"), NOON) == b"it"


def test_case_36_a_429_says_how_long_to_wait() -> None:
    with pytest.raises(ProviderThrottled) as raised:
        read_body(httpx.Response(429, headers={"retry-after": "120"}), NOON)
    assert raised.value.wait == timedelta(minutes=2)
