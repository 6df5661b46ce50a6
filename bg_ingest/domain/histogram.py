"""Exact weighted histograms of glucose values: merged by addition, and turned into figures as the last step.

A weight is the number of seconds that a reading represents. All sums are integers, so the histograms of two halves of
a window add up to the histogram of the window.
"""

from collections.abc import Iterable
from math import log, sqrt

import msgspec

_RISK = {value: 22.77 * (log(value) ** 1.084 - 5.381) ** 2 for value in range(1, 1001)}
"""Risk of each value in mg/dL: 10 f(x)² in the formulas of LBGI and HBGI (Kovatchev 2006, 10.2337/dc06-1085)."""

_RISK_BOUNDARY = 112.5
"""The risk of values below this (mg/dL) counts for LBGI, the risk of all others for HBGI."""


class Cell(msgspec.Struct):
    """Readings of one value."""

    count: int = 0
    weight: int = 0
    """Seconds."""


class Histogram:
    """Number of readings and sum of weights for each value in mg/dL."""

    def __init__(self) -> None:
        self.cells: dict[int, Cell] = {}
        """The readings of each value in mg/dL."""

    def add(self, value: int, weight: int, count: int = 1) -> None:
        cell = self.cells.get(value)
        if cell is None:
            cell = self.cells[value] = Cell()
        cell.count += count
        cell.weight += weight

    def merge(self, other: "Histogram") -> None:
        """Add the readings of another histogram to this one."""
        for value, cell in other.cells.items():
            self.add(value, cell.weight, cell.count)

    @property
    def count(self) -> int:
        return sum(cell.count for cell in self.cells.values())

    @property
    def weight(self) -> int:
        return sum(cell.weight for cell in self.cells.values())

    @property
    def lowest(self) -> int | None:
        return min(self.cells, default=None)

    @property
    def highest(self) -> int | None:
        return max(self.cells, default=None)

    def weight_between(self, lowest: int, highest: int) -> int:
        """Return the seconds of all values from ``lowest`` to ``highest``, both included."""
        return sum(cell.weight for value, cell in self.cells.items() if lowest <= value <= highest)

    def mean(self) -> float | None:
        """Return the weighted mean in mg/dL; None without readings."""
        total = self._total()
        return sum(value * weight for value, weight in self._weights()) / total if total else None

    def standard_deviation(self) -> float | None:
        """Return the weighted sample deviation in mg/dL; None with fewer than two readings."""
        count, total = self.count, self._total()
        if count < 2:
            return None
        weighted = sum(value * weight for value, weight in self._weights())
        squares = sum(value * value * weight for value, weight in self._weights())
        return sqrt((squares * total - weighted * weighted) / (total * total) * count / (count - 1))

    def percentiles(self, percents: Iterable[int]) -> dict[int, int]:
        """Return for each percent the smallest value whose cumulative weight reaches it; empty without readings."""
        weights = sorted(self._weights())
        total = self._total()
        found: dict[int, int] = {}
        for percent in percents if weights else ():
            cumulative = 0
            for value, weight in weights:
                cumulative += weight
                if cumulative * 100 >= percent * total:
                    found[percent] = value
                    break
        return found

    def risks(self) -> tuple[float, float] | None:
        """Return the low and the high blood glucose index; None without readings."""
        total = self._total()
        if not total:
            return None
        low = sum(_RISK[value] * weight for value, weight in self._weights() if value < _RISK_BOUNDARY)
        high = sum(_RISK[value] * weight for value, weight in self._weights() if value >= _RISK_BOUNDARY)
        return low / total, high / total

    def _weights(self) -> list[tuple[int, int]]:
        """Return (value, weight); (value, count) if no reading has a weight."""
        if self.weight:
            return [(value, cell.weight) for value, cell in self.cells.items()]
        return [(value, cell.count) for value, cell in self.cells.items()]

    def _total(self) -> int:
        return self.weight or self.count
