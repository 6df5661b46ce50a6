"""The shared HTTP client, its transport errors, and ``Retry-After``."""

from datetime import timedelta
from email.utils import format_datetime

import anyio
import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bg_ingest.errors import ProviderMisbehaved, ProviderUnavailable
from bg_ingest.providers.http import (
    ProviderClock,
    decode_json,
    parse_retry_after,
    translate_transport_errors,
)
from tests.fakes.clock import NOON, SetClock


class Shape(msgspec.Struct):
    number: int


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        ("120", 120),
        (" 7 ", 7),
        ("0", 0),
        ("86400", 3600),
        ("9" * 4000, 3600),
        ("9" * 5000, None),
        (format_datetime(NOON + timedelta(seconds=90), usegmt=True), 90),
        ("Mon, 02 Mar 2026 12:01:30 -0000", 90),
        ("Mon, 02 Mar 2026 13:01:30 +0100", 90),
        (format_datetime(NOON - timedelta(days=1), usegmt=True), 0),
        (format_datetime(NOON + timedelta(days=400), usegmt=True), 3600),
        ("-5", None),
        ("soon", None),
        ("1.5", None),
        ("", None),
    ],
)
def test_case_36_retry_after_is_seconds_or_a_date_and_an_hour_at_most(header: str, wait: int | None) -> None:
    found = parse_retry_after(httpx.Headers({"retry-after": header}), NOON)
    assert found == (None if wait is None else timedelta(seconds=wait))


def test_case_36_no_retry_after_is_no_stated_wait() -> None:
    assert parse_retry_after(httpx.Headers(), NOON) is None


@pytest.mark.parametrize(
    "failure",
    [
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout("slow"),
        httpx.ReadTimeout("slow"),
        httpx.ReadError("reset"),
        httpx.RemoteProtocolError("EOF"),
        httpx.PoolTimeout("full"),
    ],
)
async def test_case_38_no_answer_is_unavailable_and_says_only_the_kind(failure: httpx.TransportError) -> None:
    with (
        pytest.raises(ProviderUnavailable, match=type(failure).__name__) as raised,
        translate_transport_errors(timedelta(seconds=1)),
    ):
        raise failure
    assert str(failure) not in str(raised.value)
    assert raised.value.__suppress_context__  # its cause holds the request


async def test_case_38_a_call_that_takes_too_long_as_a_whole_is_unavailable() -> None:
    with pytest.raises(ProviderUnavailable, match="30 seconds"), translate_transport_errors(timedelta(seconds=30)):
        await anyio.sleep(31)


async def test_an_answer_that_cannot_be_decompressed_is_misbehaviour() -> None:
    with pytest.raises(ProviderMisbehaved, match="DecodingError"), translate_transport_errors(timedelta(seconds=1)):
        raise httpx.DecodingError("no gzip")


@pytest.mark.parametrize(
    "content", [b"", b"<html>", b"[1]", b'{"number":"one"}', b'{"number":', b'{"new":' + b"[" * 100_000, b"\xff"]
)
def test_case_22_what_is_not_the_shape_is_misbehaviour(content: bytes) -> None:
    with pytest.raises(ProviderMisbehaved, match="no Shape"):
        decode_json(content, Shape)
    assert decode_json(b'{"number":1,"new":[]}', Shape) == Shape(1)


class TruthfulProvider:
    """A provider whose clock is ahead of ours by a fixed time, and our view of it."""

    def __init__(self, ahead: float) -> None:
        self.ahead = timedelta(seconds=ahead)
        self.clock = SetClock()
        self.view = ProviderClock(self.clock)

    def answer(self, takes: float = 0.0, **headers: str) -> None:
        """Answer a request; the time is stated half-way."""
        sent = self.clock.now()
        self.clock.advance(timedelta(seconds=takes / 2))
        date = format_datetime(self.clock.now() + self.ahead, usegmt=True)
        self.clock.advance(timedelta(seconds=takes / 2))
        self.view.observe("us", httpx.Headers({"date": date} | headers), sent)

    @property
    def error(self) -> float:
        """Seconds by which our view is ahead of the provider."""
        return (self.view.now("us") - self.clock.now() - self.ahead).total_seconds()


@pytest.mark.slow
@given(st.floats(-36_000, 36_000), st.lists(st.tuples(st.floats(0, 900), st.floats(0, 2)), min_size=1, max_size=8))
def test_f33_the_clock_of_a_provider_is_known_to_a_second_and_the_time_of_an_answer(
    ahead: float, answers: list[tuple[float, float]]
) -> None:
    provider = TruthfulProvider(ahead)
    for pause, takes in answers:
        provider.clock.advance(timedelta(seconds=pause))
        provider.answer(takes)
    shortest = min(takes for _, takes in answers)
    assert -1 - shortest <= provider.error <= 1 + shortest
    if abs(ahead) > 1 + max(takes for _, takes in answers):
        assert provider.error <= 0, "a window that ends there is never in the provider's future"


def test_f33_a_clock_that_is_set_is_followed_at_the_next_answer() -> None:
    provider = TruthfulProvider(600)
    provider.answer()
    provider.ahead = timedelta(seconds=-600)
    provider.answer()
    assert provider.error == 0


@pytest.mark.parametrize(
    "date", ["", "soon", "Mon, 99 Mar 2026 12:00:00 GMT", "Thu, 01 Jan 1970 00:00:00 GMT", "9" * 99]
)
def test_f33_an_odd_date_or_the_date_of_a_cache_moves_no_clock(date: str) -> None:
    provider = TruthfulProvider(600)
    provider.answer()
    known = provider.view.now("us")
    provider.view.observe("us", httpx.Headers({"date": date}), provider.clock.now())
    provider.ahead = timedelta(0)
    provider.answer(age="20")
    assert provider.view.now("us") == known
    assert provider.view.now("ou") == provider.clock.now()
