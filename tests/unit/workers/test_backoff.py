import pytest

from workers.backoff import Backoff

NO_JITTER = Backoff(first=1, ceiling=60, jitter=lambda _low, high: high)


def test_the_delay_doubles_up_to_the_ceiling() -> None:
    assert [NO_JITTER.delay(failures) for failures in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_the_jitter_takes_away_at_most_half() -> None:
    shortest = Backoff(first=1, ceiling=60, jitter=lambda low, _high: low)
    assert [shortest.delay(failures) for failures in (1, 2, 7)] == [0.5, 1, 30]


def test_delays_differ_by_default() -> None:
    assert len({Backoff().delay(5) for _ in range(20)}) > 1


@pytest.mark.parametrize("failures", [40, 2_000])
def test_very_many_failures_do_not_overflow(failures: int) -> None:
    assert NO_JITTER.delay(failures) == 60
