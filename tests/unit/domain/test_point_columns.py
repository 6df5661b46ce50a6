"""Points as columns: a sequence of pairs."""

import pytest

from bg_ingest.domain.point_columns import PointColumns

PAIRS = [(0, 100), (300, 110), (600, 90)]
POINTS = PointColumns([second for second, _ in PAIRS], [value for _, value in PAIRS])


def test_columns_read_as_a_list_of_pairs() -> None:
    assert list(POINTS) == PAIRS
    assert len(POINTS) == 3
    assert (POINTS[0], POINTS[-1]) == (PAIRS[0], PAIRS[-1])
    for part in (slice(None), slice(1, None), slice(-1), slice(2, 1), slice(5, 9)):
        assert POINTS[part] == PAIRS[part]
    with pytest.raises(IndexError):
        POINTS[3]


def test_columns_of_different_lengths_are_an_error() -> None:
    points = PointColumns([0, 300], [100])
    with pytest.raises(ValueError, match="zip"):
        list(points)
