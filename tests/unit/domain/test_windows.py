"""Windows: their parts, and the window of a poll."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bg_ingest.domain.windows import Window, live_window

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def test_a_window_includes_its_start_and_excludes_its_end() -> None:
    window = Window(NOW - DAY, NOW)
    assert NOW - DAY in window
    assert NOW not in window


def test_an_empty_window_is_refused() -> None:
    with pytest.raises(ValueError, match="ends after it starts"):
        Window(NOW, NOW)


@given(st.integers(1, 400), st.integers(-500, 500))
def test_the_parts_before_and_since_an_instant_are_the_whole(hours: int, instant: int) -> None:
    window, at = Window(NOW - hours * HOUR, NOW), NOW + instant * HOUR
    before, since = window.before(at), window.since(at)
    parts = [part for part in (before, since) if part]
    assert [parts[0].start, parts[-1].end] == [window.start, window.end]
    assert all(earlier.end == later.start == at for earlier, later in pairwise(parts))


@pytest.mark.slow
@given(st.integers(1, 4000), st.integers(1, 700))
def test_reading_newest_parts_leaves_nothing_unread(hours: int, longest: int) -> None:
    unread: Window | None = Window(NOW - hours * HOUR, NOW)
    end = NOW
    while unread:
        part = unread.newest(longest * HOUR)
        assert part.end == end
        end, unread = part.start, unread.before(part.start)
    assert end == NOW - hours * HOUR


def test_a_joined_window_includes_the_time_in_between() -> None:
    old = Window(NOW - 90 * DAY, NOW - 80 * DAY)
    assert Window(NOW - 40 * DAY, NOW).before(NOW - 30 * DAY, joining=old) == Window(NOW - 90 * DAY, NOW - 30 * DAY)
    assert Window(NOW - DAY, NOW).before(NOW - 2 * DAY, joining=old) == old
    assert Window(NOW - DAY, NOW).before(NOW - 2 * DAY) is None


def test_a_poll_begins_at_the_watermark_less_the_overlap() -> None:
    assert live_window(NOW - HOUR, NOW, overlap=3 * HOUR) == Window(NOW - 4 * HOUR, NOW)


def test_a_watermark_later_than_now_is_ignored() -> None:
    assert live_window(NOW + 5 * HOUR, NOW, overlap=3 * HOUR) == Window(NOW - 3 * HOUR, NOW)


def test_a_poll_without_overlap_has_a_window() -> None:
    assert live_window(NOW, NOW, overlap=timedelta(0)).length > timedelta(0)
