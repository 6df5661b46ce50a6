"""Histograms: figures by their definitions, and addition."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bg_ingest.domain.histogram import Histogram

Rows = Sequence[tuple[int, int]]
rows_of_values = st.lists(st.tuples(st.integers(39, 501), st.integers(0, 900)), min_size=1, max_size=60)


def histogram_of(rows: Rows) -> Histogram:
    histogram = Histogram()
    for value, weight in rows:
        histogram.add(value, weight)
    return histogram


def test_an_empty_histogram_has_no_figures() -> None:
    empty = Histogram()
    assert (empty.count, empty.weight, empty.weight_between(0, 1_000)) == (0, 0, 0)
    figures = [empty.mean(), empty.standard_deviation(), empty.risks(), empty.lowest, empty.highest]
    assert figures == [None] * 5
    assert empty.percentiles([5, 50]) == {}


@pytest.mark.slow
@given(rows_of_values)
def test_mean_and_percentiles_follow_their_definitions(rows: Rows) -> None:
    histogram = histogram_of(rows)
    total = sum(weight for _, weight in rows)
    shares = rows if total else [(value, 1) for value, _ in rows]
    total = total or len(rows)
    assert histogram.mean() == pytest.approx(sum(value * weight for value, weight in shares) / total)
    for percent, value in histogram.percentiles([5, 25, 50, 75, 95]).items():
        assert sum(weight for other, weight in shares if other <= value) * 100 >= percent * total
        assert sum(weight for other, weight in shares if other < value) * 100 < percent * total


@pytest.mark.slow
@given(rows_of_values, st.data())
def test_the_halves_of_a_list_add_up(rows: Rows, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(rows)))
    merged = histogram_of(rows[:cut])
    merged.merge(histogram_of(rows[cut:]))
    assert merged.cells == histogram_of(rows).cells


def test_one_reading_has_no_deviation_and_equal_readings_have_none_either() -> None:
    assert histogram_of([(100, 300)]).standard_deviation() is None
    assert histogram_of([(100, 300), (100, 60)]).standard_deviation() == 0
