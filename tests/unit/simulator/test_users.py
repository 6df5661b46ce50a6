"""Users: travel, other habits, plausible glucose."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from tests.harness.simulated_readings import ALL_USERS, month, wearer


def test_dawn_raises_the_glucose_of_the_user_with_high_mornings() -> None:
    def mean_at(hour: int) -> float:
        values = [r.glucose_mg_dl for r in month(2) if (r.measured_at.hour - 5) % 24 == hour]
        return sum(values) / len(values)

    assert mean_at(7) > mean_at(3) + 30


def test_the_traveller_changes_zones_and_the_clock_follows_summer() -> None:
    travelled = {reading.utc_offset_seconds for reading in month(5)}
    assert len(travelled) >= 3
    assert 20_700 in travelled, "Nepal is 5:45 ahead"
    berlin = wearer(1).readings(datetime(2026, 3, 28, tzinfo=UTC), datetime(2026, 3, 30, tzinfo=UTC))
    assert {reading.utc_offset_seconds for reading in berlin} == {3600, 7200}


@pytest.mark.slow
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
