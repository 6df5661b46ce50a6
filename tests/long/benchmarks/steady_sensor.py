"""User with a sensor without gaps: 288 readings each day, so that figures are of round numbers."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from bg_ingest.simulator import SimulatorOptions
from tests.harness.service import START

CADENCE, DAY = timedelta(minutes=5), timedelta(days=1)
DAYS_BEFORE, DAYS_AFTER = 91, 100
"""Span of the readings around the start time of a runtime."""

JITTER = [timedelta(seconds=seconds) for seconds in (0, 0, 0, 0, 0, 1, -1)]
"""Deviations from the grid: of a real sensor's intervals 70 % were of 300 s, the rest of 299 and 301."""

_COLUMNS = "Timestamp (YYYY-MM-DDThh:mm:ss),Event Type,Source Device ID,Glucose Value (mg/dL)"


@contextmanager
def steady_sensor() -> Iterator[SimulatorOptions]:
    """Write an export of such a user, and return a simulator's options that replay it."""
    chance, value = random.Random(1), 110
    rows = [_COLUMNS]
    at = START - DAYS_BEFORE * DAY
    while at < START + DAYS_AFTER * DAY:
        value = min(390, max(45, value + chance.randint(-6, 6)))
        measured_at = at + chance.choice(JITTER)
        rows.append(f"{measured_at:%Y-%m-%dT%H:%M:%S},EGV,iPhone G7,{value}")
        at += CADENCE
    with TemporaryDirectory() as index:
        export = Path(index) / "export.csv"
        export.write_text("\n".join(rows))
        yield SimulatorOptions(replay=export, zone="UTC", users=0)
