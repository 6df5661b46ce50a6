"""Reservations of calls: never more than rate and burst allow, and a pause after a refusal; rate limits per key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bg_ingest.domain.call_budget import (
    FIRST_PAUSE_SECONDS,
    MAX_KEYS,
    MAX_PAUSE_SECONDS,
    MICROS_PER_SECOND,
    REPEAT_WINDOW_SECONDS,
    BudgetRow,
    ProviderLimit,
    RateLimiter,
    Reservation,
    RowClock,
    pause_after,
)

DEXCOM = ProviderLimit(60_000)
NOON = 1_772_452_800 * MICROS_PER_SECOND


def reserve_calls(row: BudgetRow, now: int, priority: int = 100, calls: int = 1) -> BudgetRow:
    reservation = DEXCOM.reserve(row, now, priority, max_calls=calls, min_calls=calls)
    assert reservation.calls == calls
    return reservation.after


def test_the_rate_leaves_room_for_a_burst_a_minute_old_reservation_and_clocks_that_leap() -> None:
    assert DEXCOM.burst == 20
    assert 60 * DEXCOM.rate + DEXCOM.burst <= 1000, "no minute, at any start, has more than its part of the hour"
    assert 3600 * DEXCOM.rate + DEXCOM.burst + 60 * DEXCOM.rate + 9 * DEXCOM.burst <= 60_000
    assert DEXCOM.rate > 0.979 * 60_000 / 3600


@pytest.mark.parametrize(("priority", "calls"), [(60, 12), (75, 15), (95, 19), (100, 20)])
def test_after_a_rest_each_priority_has_its_share_of_the_burst(priority: int, calls: int) -> None:
    reservation = DEXCOM.reserve(BudgetRow(), NOON, priority, max_calls=1000)
    assert reservation.calls == calls
    assert DEXCOM.reserve(reservation.after, NOON, priority, max_calls=1).calls == 0


def test_calls_above_a_lower_priority_are_left_to_the_higher_ones() -> None:
    row = BudgetRow()
    for priority, calls in ((60, 12), (75, 3), (95, 4), (100, 1)):
        reservation = DEXCOM.reserve(row, NOON, priority, max_calls=1000)
        assert reservation.calls == calls
        row = reservation.after


def test_a_caller_that_returns_after_the_wait_has_as_many_as_were_requested() -> None:
    row = reserve_calls(BudgetRow(), NOON, 100, 20)
    for priority in (60, 75, 95, 100):
        refused = DEXCOM.reserve(row, NOON, priority, max_calls=7, min_calls=4)
        assert (refused.calls, refused.after) == (0, row)
        later = NOON + round(refused.wait * MICROS_PER_SECOND) + 1
        assert DEXCOM.reserve(row, later, priority, max_calls=7, min_calls=4).calls == 4
        assert DEXCOM.reserve(row, later - MICROS_PER_SECOND // 20, priority, max_calls=7, min_calls=4).calls == 0


def test_a_long_rest_saves_no_more_than_one_burst() -> None:
    row = reserve_calls(BudgetRow(), NOON, 100, 20)
    assert DEXCOM.reserve(row, NOON + 3600 * MICROS_PER_SECOND, 100, max_calls=1000).calls == 20


def test_a_small_limit_still_lets_every_priority_through() -> None:
    small = ProviderLimit(100)
    for priority in (60, 75, 95, 100):
        assert small.reserve(BudgetRow(), NOON, priority, max_calls=1).calls == 1
    assert small.rate * 3660 + small.burst <= 100


def test_a_process_that_reads_the_row_advances_to_its_time() -> None:
    row = reserve_calls(BudgetRow(), NOON)
    assert row.at == NOON
    behind = RowClock(NOON - 3600 * MICROS_PER_SECOND, 100.0).advance(row.at, 110.0)
    assert behind.at(112.5) == NOON + 5 * MICROS_PER_SECOND // 2
    ahead = RowClock(NOON + 3600 * MICROS_PER_SECOND, 100.0)
    assert ahead.advance(row.at, 110.0) == ahead


def test_a_refusal_pauses_all_calls_for_the_requested_time() -> None:
    row = pause_after(reserve_calls(BudgetRow(), NOON), NOON, NOON - MICROS_PER_SECOND, 120)
    assert DEXCOM.reserve(row, NOON, 100, max_calls=1) == Reservation(0, row, 120)
    assert DEXCOM.reserve(row, NOON + 120 * MICROS_PER_SECOND, 100, max_calls=1).calls == 1
    assert pause_after(BudgetRow(), NOON, NOON, 0).paused_until == NOON + MICROS_PER_SECOND, (
        "a pause of 0 s would be a loop"
    )


def test_without_a_requested_time_pauses_grow_while_refusals_follow_each_other() -> None:
    row, now, pauses = BudgetRow(), NOON, []
    for _ in range(7):
        row = pause_after(row, now, now, None)
        pauses.append((row.paused_until - now) // MICROS_PER_SECOND)
        now = row.paused_until + MICROS_PER_SECOND
    assert pauses == [FIRST_PAUSE_SECONDS, 60, 120, 240, 480, MAX_PAUSE_SECONDS, MAX_PAUSE_SECONDS]
    later = row.paused_until + REPEAT_WINDOW_SECONDS * MICROS_PER_SECOND
    assert pause_after(row, later, later, None).paused_until == later + FIRST_PAUSE_SECONDS * MICROS_PER_SECOND


def test_refusals_of_calls_under_way_are_one_pause() -> None:
    row = pause_after(BudgetRow(), NOON, NOON - MICROS_PER_SECOND, None)
    assert pause_after(row, NOON + MICROS_PER_SECOND, NOON - MICROS_PER_SECOND, None) == row
    assert pause_after(row, NOON + MICROS_PER_SECOND, NOON - MICROS_PER_SECOND, 5) == row, (
        "a shorter pause does not end a longer one"
    )
    longer = pause_after(row, NOON + MICROS_PER_SECOND, NOON - MICROS_PER_SECOND, 60)
    assert (longer.paused_until, longer.pauses) == (NOON + 61 * MICROS_PER_SECOND, 1)


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


@pytest.mark.slow
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
    assert limiter.acquire(MAX_KEYS + 99, 0) > 0, "the newest keys are remembered"
    assert limiter.acquire(0, 0) == 0, "the oldest keys are not"
