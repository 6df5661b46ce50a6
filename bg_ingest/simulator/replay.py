"""Readings from a Clarity export: the values, dates and gaps of a real sensor."""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from bg_ingest.domain.files import FileRefused, ReadingFile, RowLeftOut, RowReason, read_clarity
from bg_ingest.domain.readings import MIN_MEASURED_AT, Reading
from bg_ingest.simulator.options import hex_of
from bg_ingest.simulator.readings import TrueReading, arrow
from bg_ingest.simulator.users import DisplayDevice

REPLAY_USER = "ReplayUser"
_RATE_PERIOD = timedelta(minutes=15)
_MAX_LINES = 5
"""Lines of the file that the report names for each reason."""

_DISPLAYS: tuple[DisplayDevice, ...] = ("receiver", "watch", "android")
_REASONS: dict[RowReason, str] = {
    "not_a_record": "cut or shifted",
    "no_time": "without a time",
    "bad_time": "with a time that cannot be read or does not exist in the zone",
    "ancient": f"older than {MIN_MEASURED_AT.year}",
    "no_value": "without a value",
    "bad_value": "with a value that is no glucose",
    "repeated": "with the time and device of an earlier row (if they are many, check the zone)",
}


class ReplayUnreadable(Exception):
    """The file is no Clarity export, or the zone is unknown; the text names the remedy."""


class ReplayedWearer:
    """User with the readings of a Clarity export. The local times of the export are read in `zone`."""

    name = REPLAY_USER

    def __init__(self, path: Path, zone: str) -> None:
        self.title = f"Replays {path.name}"
        contents = _read(path, zone)
        self.report = f"{path.name}: {_describe(contents)}"
        self._readings = _to_true_readings(contents.readings)
        self._instants = [reading.measured_at for reading in self._readings]
        self.first = self._instants[0]
        self.last = self._instants[-1]

    def readings(self, start: datetime, end: datetime) -> Sequence[TrueReading]:
        return self._readings[bisect_left(self._instants, start) : bisect_right(self._instants, end)]


def _read(path: Path, zone_name: str) -> ReadingFile:
    try:
        zone = ZoneInfo(zone_name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as problem:  # OSError: a folder of zones, such as "Europe"
        raise ReplayUnreadable(f"The zone {zone_name!r} is unknown: give one like Europe/Berlin.") from problem
    try:
        contents = read_clarity(path.read_bytes(), zone)
    except OSError as problem:
        raise ReplayUnreadable(f"{path} cannot be read: {problem.strerror}.") from problem
    except FileRefused as problem:
        raise ReplayUnreadable(f"{path} {problem}") from problem
    if not contents.readings:
        raise ReplayUnreadable(f"{path} has no readable reading. {_describe_left_out(contents.left_out)}")
    return contents


def _describe(contents: ReadingFile) -> str:
    first, last = contents.readings[0].measured_at, contents.readings[-1].measured_at
    count = len(contents.readings)
    parts = [f"{count} reading{'s' * (count > 1)} from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC."]
    if contents.left_out:
        parts.append(_describe_left_out(contents.left_out))
    if contents.uncertain:
        parts.append(
            f"{contents.uncertain} reading{'s' * (contents.uncertain > 1)} may be from the first or the second pass of "
            "an hour that a clock change repeats; the first is assumed."
        )
    return " ".join(parts)


def _describe_left_out(rows: Iterable[RowLeftOut]) -> str:
    lines: defaultdict[RowReason, list[str]] = defaultdict(list)
    for row in rows:
        lines[row.reason].append(str(row.line))
    reasons = [
        f"{len(of_reason)} {_REASONS[reason]} (line{'s' * (len(of_reason) > 1)} {', '.join(of_reason[:_MAX_LINES])}"
        f"{' and others' if len(of_reason) > _MAX_LINES else ''})"
        for reason, of_reason in lines.items()
    ]
    count = sum(map(len, lines.values()))
    return f"{count} row{'s' * (count > 1)} left out: {'; '.join(reasons)}."


def _to_true_readings(readings: Iterable[Reading]) -> list[TrueReading]:
    by_display: defaultdict[str, list[Reading]] = defaultdict(list)
    for reading in readings:
        by_display[reading.device.display].append(reading)
    true = [
        _to_true_reading(reading, _rate(reading, of_display[max(0, index - 3)]))
        for of_display in by_display.values()
        for index, reading in enumerate(of_display)
    ]
    return sorted(true, key=lambda reading: (reading.measured_at, reading.display_device))


def _rate(reading: Reading, earlier: Reading) -> float | None:
    """Return mg/dL per minute over the last three steps; None at the start and after a gap."""
    elapsed = reading.measured_at - earlier.measured_at
    if not timedelta() < elapsed <= _RATE_PERIOD + timedelta(minutes=1):
        return None
    return (reading.glucose_mg_dl - earlier.glucose_mg_dl) / (elapsed.total_seconds() / 60)


def _to_true_reading(reading: Reading, rate: float | None) -> TrueReading:
    device = reading.device
    name = device.display.lower()
    trend, trend_rate = arrow(rate) if rate is not None else ("none", None)
    return TrueReading(
        measured_at=reading.measured_at,
        glucose_mg_dl=reading.glucose_mg_dl,
        flag=reading.flag,
        trend=trend,
        trend_rate=trend_rate,
        utc_offset_seconds=reading.utc_offset_seconds or 0,
        transmitter_id=hex_of(REPLAY_USER, device.transmitter or ""),
        transmitter_ticks=int((reading.measured_at - MIN_MEASURED_AT).total_seconds()),
        display_device=next((display for display in _DISPLAYS if display in name), "iOS"),
        generation="g7" if device.generation == "g7" else "g6",
    )
