"""Figures of a histogram: bounds of the ranges, risk index, and nulls."""

import pytest

from bg_ingest.domain.histogram import Histogram
from bg_ingest.domain.statistics import compute_figures


def figures_of(*values: int, ranges: str = "standard") -> dict[str, object]:
    histogram = Histogram()
    for value in values:
        histogram.add(value, 300)
    figures = compute_figures(histogram, ranges)
    return {name: getattr(figures, name) for name in figures.__struct_fields__}


@pytest.mark.parametrize(
    ("value", "name"),
    [(53, "very_low"), (54, "low"), (69, "low"), (70, "in_range"), (180, "in_range"), (181, "high"), (250, "high"),
     (251, "very_high"), (39, "very_low"), (501, "very_high")],
)  # fmt: skip
def test_a_value_is_in_one_range(value: int, name: str) -> None:
    seconds = figures_of(value)["time_seconds"]
    assert isinstance(seconds, dict)
    assert {key for key, weight in seconds.items() if weight} - {"in_tight_range"} == {name}


def test_the_risk_index_is_at_most_100_and_in_zone_e() -> None:
    gri = figures_of(39, 40, 41)["gri"]
    assert (gri.value, gri.zone, gri.hypo, gri.hyper) == (100, "E", 100, 0)  # type: ignore[attr-defined]


def test_without_readings_sums_are_zero_and_figures_null() -> None:
    figures = figures_of(ranges="pregnancy")
    assert figures.pop("time_seconds") == {"very_low": 0, "low": 0, "in_range": 0, "high": 0}
    assert set(figures.values()) == {None}
