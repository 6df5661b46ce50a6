"""Sensors: grid of slots, lifetime, warm-up, missing slots."""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise

import pytest

from bg_ingest.simulator import TrueReading
from tests.harness.simulated_readings import month


def steps(readings: Sequence[TrueReading]) -> list[float]:
    return [(b.measured_at - a.measured_at).total_seconds() for a, b in pairwise(readings)]


@pytest.mark.parametrize("cadence", [1, 5, 15])
def test_readings_keep_to_the_cadence_but_for_a_second(cadence: int) -> None:
    common = Counter(steps(month(1, cadence=cadence))).most_common(3)
    assert {step for step, _ in common} == {cadence * 60 - 1, cadence * 60, cadence * 60 + 1}
    assert common[0][0] == cadence * 60


@pytest.mark.parametrize(("number", "warm_up"), [(1, timedelta(hours=2)), (7, timedelta(minutes=30))])
def test_a_sensor_lasts_ten_days_and_the_next_one_warms_up(number: int, warm_up: timedelta) -> None:
    readings = month(number)
    changes = [(a, b) for a, b in pairwise(readings) if a.transmitter_id != b.transmitter_id]
    assert len(changes) == 3
    assert len({reading.transmitter_id for reading in readings}) == 4
    for before, after in changes:
        assert warm_up <= after.measured_at - before.measured_at < warm_up + timedelta(hours=3)
        assert before.transmitter_ticks > 9.8 * 86_400
        assert warm_up.total_seconds() <= after.transmitter_ticks < warm_up.total_seconds() + 3 * 3600
    worn = [b.measured_at - a.measured_at for (_, a), (b, _) in pairwise(changes)]
    assert all(timedelta(days=9.8) < span < timedelta(days=10) for span in worn)


def test_some_readings_are_missing_and_most_are_there() -> None:
    readings = month(1)
    assert 8000 < len(readings) < 8600
    gaps = [step for step in steps(readings) if step > 301]
    assert any(step < 700 for step in gaps), "a single reading lost"
    assert any(900 < step < 9000 for step in gaps), "a stretch lost"
