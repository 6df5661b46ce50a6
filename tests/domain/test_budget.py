"""How calls are given out: never more than rate and depth allow, and a pause for a refusal."""

import pytest

from bg_ingest.domain.budget import FIRST_PAUSE, LONGEST_PAUSE, SECOND, SOON, Limit, RowTime, Sale, Spending, paused

DEXCOM = Limit(60_000)
NOON = 1_772_452_800 * SECOND


def sold(row: Spending, now: int, priority: int = 100, calls: int = 1) -> Spending:
    sale = DEXCOM.sale(row, now, priority, most=calls, least=calls)
    assert sale.calls == calls
    return sale.after


def test_the_rate_leaves_room_for_a_burst_a_minute_old_slice_and_clocks_that_leap() -> None:
    assert DEXCOM.depth == 20
    assert 60 * DEXCOM.rate + DEXCOM.depth <= 1000, "no minute, wherever it begins, has more than its part of the hour"
    assert 3600 * DEXCOM.rate + DEXCOM.depth + 60 * DEXCOM.rate + 9 * DEXCOM.depth <= 60_000
    assert DEXCOM.rate > 0.979 * 60_000 / 3600


@pytest.mark.parametrize(("priority", "calls"), [(60, 12), (75, 15), (95, 19), (100, 20)])
def test_after_a_rest_each_priority_has_its_share_of_the_depth(priority: int, calls: int) -> None:
    sale = DEXCOM.sale(Spending(), NOON, priority, most=1000)
    assert sale.calls == calls
    assert DEXCOM.sale(sale.after, NOON, priority, most=1).calls == 0


def test_what_lower_priorities_may_not_have_is_left_to_the_higher_ones() -> None:
    row = Spending()
    for priority, left in ((60, 12), (75, 3), (95, 4), (100, 1)):
        sale = DEXCOM.sale(row, NOON, priority, most=1000)
        assert sale.calls == left
        row = sale.after


def test_whoever_comes_back_after_the_wait_has_as_many_as_were_wanted() -> None:
    row = sold(Spending(), NOON, 100, 20)
    for priority in (60, 75, 95, 100):
        refused = DEXCOM.sale(row, NOON, priority, most=7, least=4)
        assert (refused.calls, refused.after) == (0, row)
        later = NOON + round(refused.wait * SECOND) + 1
        assert DEXCOM.sale(row, later, priority, most=7, least=4).calls == 4
        assert DEXCOM.sale(row, later - SECOND // 20, priority, most=7, least=4).calls == 0


def test_a_rest_is_not_saved_up() -> None:
    row = sold(Spending(), NOON, 100, 20)
    assert DEXCOM.sale(row, NOON + 3600 * SECOND, 100, most=1000).calls == 20


def test_a_small_limit_still_lets_every_priority_through() -> None:
    small = Limit(100)
    for priority in (60, 75, 95, 100):
        assert small.sale(Spending(), NOON, priority, most=1).calls == 1
    assert small.rate * 3660 + small.depth <= 100


def test_who_reads_the_row_learns_what_time_it_is() -> None:
    row = sold(Spending(), NOON)
    assert row.at == NOON
    behind = RowTime(NOON - 3600 * SECOND, 100.0).following(row.at, 110.0)
    assert behind.at(112.5) == NOON + 5 * SECOND // 2
    ahead = RowTime(NOON + 3600 * SECOND, 100.0)
    assert ahead.following(row.at, 110.0) == ahead


def test_a_refusal_pauses_everybody_for_as_long_as_was_asked() -> None:
    row = paused(sold(Spending(), NOON), NOON, NOON - SECOND, 120)
    assert DEXCOM.sale(row, NOON, 100, most=1) == Sale(0, row, 120)
    assert DEXCOM.sale(row, NOON + 120 * SECOND, 100, most=1).calls == 1
    assert paused(Spending(), NOON, NOON, 0).paused_until == NOON + SECOND, "not at all would be a loop"


def test_without_a_time_it_grows_while_refusals_follow_each_other() -> None:
    row, now, pauses = Spending(), NOON, []
    for _ in range(7):
        row = paused(row, now, now, None)
        pauses.append((row.paused_until - now) // SECOND)
        now = row.paused_until + SECOND
    assert pauses == [FIRST_PAUSE, 60, 120, 240, 480, LONGEST_PAUSE, LONGEST_PAUSE]
    later = row.paused_until + SOON * SECOND
    assert paused(row, later, later, None).paused_until == later + FIRST_PAUSE * SECOND


def test_calls_that_were_under_way_are_one_refusal() -> None:
    row = paused(Spending(), NOON, NOON - SECOND, None)
    assert paused(row, NOON + SECOND, NOON - SECOND, None) == row
    assert paused(row, NOON + SECOND, NOON - SECOND, 5) == row, "a shorter one does not end it"
    longer = paused(row, NOON + SECOND, NOON - SECOND, 60)
    assert (longer.paused_until, longer.pauses) == (NOON + 61 * SECOND, 1)
