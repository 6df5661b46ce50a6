"""Rate limit per key."""

from hypothesis import given
from hypothesis import strategies as st

from bg_ingest.domain.rate_limit import MAX_KEYS, RateLimiter


def test_a_burst_is_admitted_at_once_and_then_a_steady_rate() -> None:
    limiter = RateLimiter(10, 5)
    assert [limiter.acquire("ada", 0) > 0 for _ in range(7)] == [False] * 5 + [True] * 2
    assert limiter.acquire("ada", 0.05) > 0
    assert limiter.acquire("ada", 0.101) == 0
    assert limiter.acquire("ada", 0.102) > 0


def test_a_caller_that_waits_the_returned_time_is_admitted() -> None:
    limiter = RateLimiter(3, 1)
    assert limiter.acquire("ada", 0) == 0
    wait = limiter.acquire("ada", 0.1)
    assert 0.2 < wait < 0.24
    assert limiter.acquire("ada", 0.1 + wait) == 0


def test_one_key_does_not_use_up_the_units_of_another() -> None:
    limiter = RateLimiter(1, 1)
    assert limiter.acquire("ada", 0) == limiter.acquire("bob", 0) == 0
    assert limiter.acquire("ada", 0) > 0


@given(st.floats(0.1, 1000), st.integers(1, 50), st.lists(st.floats(0, 5), max_size=200))
def test_no_key_gets_more_than_rate_and_burst_in_any_time(rate: float, burst: int, pauses: list[float]) -> None:
    limiter, now, taken = RateLimiter(rate, burst), 1000.0, 0
    for pause in pauses:
        now += pause / rate
        taken += limiter.acquire("ada", now) == 0
    assert taken <= burst + (now - 1000.0) * rate + 1e-6


def test_the_number_of_remembered_keys_is_bounded() -> None:
    limiter = RateLimiter(1, 1)
    for number in range(MAX_KEYS + 100):
        limiter.acquire(number, 0)
    assert limiter.acquire(MAX_KEYS + 99, 0) > 0, "the newest are remembered"
    assert limiter.acquire(0, 0) == 0, "the oldest are not"
