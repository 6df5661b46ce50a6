"""Glucose curve: plausible values."""

from datetime import timedelta
from itertools import pairwise

import pytest

from tests.harness.simulated_readings import ALL_USERS, month


@pytest.mark.parametrize("number", ALL_USERS)
def test_glucose_is_plausible(number: int) -> None:
    readings = month(number)
    values = [reading.glucose_mg_dl for reading in readings]
    assert 90 < sum(values) / len(values) < 230
    assert max(values) - min(values) > 80
    changes = [
        abs(b.glucose_mg_dl - a.glucose_mg_dl)
        for a, b in pairwise(readings)
        if b.measured_at - a.measured_at < timedelta(minutes=6)
    ]
    assert max(changes) < 45
    assert sum(changes) / len(changes) < 6
