"""How often somebody may come."""

from hypothesis import given
from hypothesis import strategies as st

from bg_ingest.domain import allowance
from bg_ingest.domain.allowance import Allowance


def test_so_many_come_at_once_and_then_steadily() -> None:
    ours = Allowance(10, 5)
    assert [ours.take("ada", 0) > 0 for _ in range(7)] == [False] * 5 + [True] * 2
    assert ours.take("ada", 0.05) > 0
    assert ours.take("ada", 0.101) == 0
    assert ours.take("ada", 0.102) > 0


def test_who_waits_as_long_as_told_may_come() -> None:
    ours = Allowance(3, 1)
    assert ours.take("ada", 0) == 0
    wait = ours.take("ada", 0.1)
    assert 0.2 < wait < 0.24
    assert ours.take("ada", 0.1 + wait) == 0


def test_one_does_not_use_up_anothers() -> None:
    ours = Allowance(1, 1)
    assert ours.take("ada", 0) == ours.take("bob", 0) == 0
    assert ours.take("ada", 0) > 0


@given(st.floats(0.1, 1000), st.integers(1, 50), st.lists(st.floats(0, 5), max_size=200))
def test_nobody_gets_more_than_the_limit_in_any_time(rate: float, at_once: int, pauses: list[float]) -> None:
    ours, now, taken = Allowance(rate, at_once), 1000.0, 0
    for pause in pauses:
        now += pause / rate
        taken += ours.take("ada", now) == 0
    assert taken <= at_once + (now - 1000.0) * rate + 1e-6


def test_it_remembers_no_more_than_so_many() -> None:
    ours = Allowance(1, 1)
    for number in range(allowance.MOST_KNOWN + 100):
        ours.take(number, 0)
    assert ours.take(allowance.MOST_KNOWN + 99, 0) > 0, "the newest are remembered"
    assert ours.take(0, 0) == 0, "the oldest are not"
