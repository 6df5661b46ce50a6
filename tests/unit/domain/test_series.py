"""Bins of a window."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bg_ingest.domain.local_time import Zone
from bg_ingest.domain.series import BIN_SECONDS, Bins, smallest_bin
from bg_ingest.domain.windows import Window

MIDNIGHT = datetime(2026, 3, 28, tzinfo=UTC)


@given(
    st.integers(0, 10**6),
    st.integers(1, 10**6),
    st.sampled_from(sorted(BIN_SECONDS)),
    st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe"]),
)
def test_bins_cover_the_window_without_a_needless_one(start: int, length: int, name: str, zone_name: str) -> None:
    zone = Zone(zone_name)
    window = Window(MIDNIGHT + timedelta(seconds=start), MIDNIGHT + timedelta(seconds=start + length))
    bins = Bins(window, name, zone)
    first, last = int(window.start.timestamp()), int(window.end.timestamp()) - 1
    assert bins.bounds[0] <= first < bins.bounds[1]
    assert bins.bounds[-2] <= last < bins.bounds[-1]
    assert (bins.index(first), bins.index(last)) == (0, len(bins.starts) - 1)
    assert (bins.window.start, bins.window.end) <= (window.start, bins.window.end)
    if name != "1d":
        assert {bound % bins.seconds for bound in bins.bounds} == {0}


@pytest.mark.parametrize(("most", "name"), [(288, "5m"), (287, "15m"), (24, "1h"), (23, "3h"), (1, "1d"), (0, None)])
def test_the_smallest_bin_that_fits_is_chosen(most: int, name: str | None) -> None:
    assert smallest_bin(Window(MIDNIGHT, MIDNIGHT + timedelta(days=1)), Zone("UTC"), most) == name


def test_days_begin_at_the_midnights_of_the_zone() -> None:
    bins = Bins(Window(MIDNIGHT, MIDNIGHT + timedelta(days=2)), "1d", Zone("Europe/Berlin"))
    hours = [(later - start) / 3_600 for start, later in zip(bins.bounds, bins.bounds[1:], strict=False)]
    assert hours == [24, 23, 24]
