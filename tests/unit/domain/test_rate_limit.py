"""How often somebody may come."""

from hypothesis import given
from hypothesis import strategies as st

from bg_ingest.domain import rate_limit as allowance
from bg_ingest.domain.rate_limit import RateLimiter


def test_so_many_come_at_once_and_then_steadily() -> None:
    ours = RateLimiter(10, 5)
    assert [ours.acquire("ada", 0) > 0 for _ in range(7)] == [False] * 5 + [True] * 2
    assert ours.acquire("ada", 0.05) > 0
    assert ours.acquire("ada", 0.101) == 0
    assert ours.acquire("ada", 0.102) > 0


def test_a_caller_that_waits_as_long_as_asked_is_admitted() -> None:
    ours = RateLimiter(3, 1)
    assert ours.acquire("ada", 0) == 0
    wait = ours.acquire("ada", 0.1)
    assert 0.2 < wait < 0.24
    assert ours.acquire("ada", 0.1 + wait) == 0


def test_one_does_not_use_up_anothers() -> None:
    ours = RateLimiter(1, 1)
    assert ours.acquire("ada", 0) == ours.acquire("bob", 0) == 0
    assert ours.acquire("ada", 0) > 0


@given(st.floats(0.1, 1000), st.integers(1, 50), st.lists(st.floats(0, 5), max_size=200))
def test_nobody_gets_more_than_the_limit_in_any_time(rate: float, at_once: int, pauses: list[float]) -> None:
    ours, now, taken = RateLimiter(rate, at_once), 1000.0, 0
    for pause in pauses:
        now += pause / rate
        taken += ours.acquire("ada", now) == 0
    assert taken <= at_once + (now - 1000.0) * rate + 1e-6


def test_it_remembers_no_more_than_so_many() -> None:
    ours = RateLimiter(1, 1)
    for number in range(allowance.MAX_KEYS + 100):
        ours.acquire(number, 0)
    assert ours.acquire(allowance.MAX_KEYS + 99, 0) > 0, "the newest are remembered"
    assert ours.acquire(0, 0) == 0, "the oldest are not"
