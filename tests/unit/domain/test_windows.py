from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bg_ingest.domain.windows import Window, live_window

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def test_a_window_holds_its_start_but_not_its_end() -> None:
    window = Window(NOW - DAY, NOW)
    assert NOW - DAY in window
    assert NOW not in window


def test_an_empty_window_is_no_window() -> None:
    with pytest.raises(ValueError, match="ends after it starts"):
        Window(NOW, NOW)


@given(st.integers(1, 400), st.integers(-500, 500))
def test_what_lies_before_an_instant_and_since_it_is_the_whole(hours: int, instant: int) -> None:
    window, at = Window(NOW - hours * HOUR, NOW), NOW + instant * HOUR
    before, since = window.before(at), window.since(at)
    parts = [part for part in (before, since) if part]
    assert [parts[0].start, parts[-1].end] == [window.start, window.end]
    assert all(earlier.end == later.start == at for earlier, later in pairwise(parts))


@given(st.integers(1, 4000), st.integers(1, 700))
def test_reading_newest_parts_leaves_nothing_unread(hours: int, longest: int) -> None:
    left: Window | None = Window(NOW - hours * HOUR, NOW)
    end = NOW
    while left:
        part = left.newest(longest * HOUR)
        assert part.end == end
        end, left = part.start, left.before(part.start)
    assert end == NOW - hours * HOUR


def test_what_joins_a_window_is_read_with_what_lies_between() -> None:
    old = Window(NOW - 90 * DAY, NOW - 80 * DAY)
    assert Window(NOW - 40 * DAY, NOW).before(NOW - 30 * DAY, joining=old) == Window(NOW - 90 * DAY, NOW - 30 * DAY)
    assert Window(NOW - DAY, NOW).before(NOW - 2 * DAY, joining=old) == old
    assert Window(NOW - DAY, NOW).before(NOW - 2 * DAY) is None


def test_a_poll_reads_back_by_the_overlap() -> None:
    assert live_window(NOW - HOUR, NOW, overlap=3 * HOUR) == Window(NOW - 4 * HOUR, NOW)


def test_a_watermark_beyond_now_is_not_believed() -> None:
    assert live_window(NOW + 5 * HOUR, NOW, overlap=3 * HOUR) == Window(NOW - 3 * HOUR, NOW)


def test_a_poll_without_overlap_still_asks_for_something() -> None:
    assert live_window(NOW, NOW, overlap=timedelta(0)).length > timedelta(0)
