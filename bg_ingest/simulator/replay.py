"""Readings from a Clarity export: the values, dates and gaps of a real sensor."""

import csv
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from bg_ingest.domain.readings import MAX_DISPLAYED_MG_DL, MG_DL_PER_MMOL_L, MIN_DISPLAYED_MG_DL
from bg_ingest.simulator.options import hex_of
from bg_ingest.simulator.readings import TrueReading, arrow, clamp_to_display, utc_offset_seconds

REPLAY_USER = "ReplayUser"
_RATE_PERIOD = timedelta(minutes=15)
_LIMIT_WORDS = {"low": MIN_DISPLAYED_MG_DL - 1.0, "high": MAX_DISPLAYED_MG_DL + 1.0}


class ReplayUnreadable(Exception):
    """The file is no Clarity export, or the zone is unknown; the text names the remedy."""


class ReplayedWearer:
    """User with the readings of a Clarity export. The local times of the export are read in `zone`."""

    name = REPLAY_USER

    def __init__(self, path: Path, zone: str) -> None:
        self.title = f"Replays {path.name}"
        self._readings = _read(path, zone)
        self._instants = [reading.measured_at for reading in self._readings]
        self.first = self._instants[0]
        self.last = self._instants[-1]

    def readings(self, start: datetime, end: datetime) -> Sequence[TrueReading]:
        return self._readings[bisect_left(self._instants, start) : bisect_right(self._instants, end)]


def _read(path: Path, zone_name: str) -> list[TrueReading]:
    try:
        zone = ZoneInfo(zone_name)
    except (ZoneInfoNotFoundError, ValueError) as problem:
        raise ReplayUnreadable(f"The zone {zone_name!r} is unknown: give one like Europe/Berlin.") from problem
    try:
        text = path.read_text(encoding="utf-8-sig")
        readings = _readings(list(_rows(text.splitlines())), zone)
    except OSError as problem:
        raise ReplayUnreadable(f"{path} cannot be read: {problem.strerror}.") from problem
    except (KeyError, ValueError) as problem:
        raise ReplayUnreadable(f"{path} is no Clarity export: export it as CSV from the Clarity site.") from problem
    if not readings:
        raise ReplayUnreadable(f"{path} has no EGV row.")
    return readings


def _rows(lines: Iterable[str]) -> Iterator[tuple[datetime, float, str]]:
    """Yield local time, mg/dL and device of every EGV row. Columns are found by name, because their order differs."""
    rows = csv.reader(lines)
    header = next(rows, [])
    column = {name.split(" (")[0]: index for index, name in enumerate(header)}
    glucose = column["Glucose Value"]
    factor = MG_DL_PER_MMOL_L if "mmol" in header[glucose] else 1.0
    for row in rows:
        if row[column["Event Type"]] == "EGV":
            text = row[glucose]
            level = _LIMIT_WORDS.get(text.lower()) or float(text) * factor
            yield datetime.fromisoformat(row[column["Timestamp"]]), level, row[column["Source Device ID"]]


def _readings(rows: Sequence[tuple[datetime, float, str]], zone: ZoneInfo) -> list[TrueReading]:
    instants = _instants([local for local, _, _ in rows], zone)
    known = dict(zip(instants, rows, strict=True))
    ordered = sorted(known)
    return [
        _reading(at, known[at], _rate(at, ordered[max(0, index - 3)], known), ordered[0], zone)
        for index, at in enumerate(ordered)
    ]


def _instants(local_times: Iterable[datetime], zone: ZoneInfo) -> list[datetime]:
    """Return UTC instants. An hour repeats at the end of summer time; a backward step marks its second pass."""
    instants: list[datetime] = []
    for local in local_times:
        at = local.replace(tzinfo=zone).astimezone(UTC)
        if instants and at <= instants[-1]:
            at = max(at, local.replace(tzinfo=zone, fold=1).astimezone(UTC))
        instants.append(at)
    return instants


def _rate(at: datetime, earlier: datetime, known: dict[datetime, tuple[datetime, float, str]]) -> float | None:
    """Return mg/dL per minute over the last three steps; None at the start and after a gap."""
    if not timedelta() < at - earlier <= _RATE_PERIOD + timedelta(minutes=1):
        return None
    return (known[at][1] - known[earlier][1]) / ((at - earlier).total_seconds() / 60)


def _reading(
    at: datetime, row: tuple[datetime, float, str], rate: float | None, first: datetime, zone: ZoneInfo
) -> TrueReading:
    _, level, device = row
    name = device.lower()
    value, flag = clamp_to_display(level)
    trend, trend_rate = arrow(rate) if rate is not None else ("none", None)
    return TrueReading(
        measured_at=at,
        glucose_mg_dl=value,
        flag=flag,
        trend=trend,
        trend_rate=trend_rate,
        utc_offset_seconds=utc_offset_seconds(at, zone),
        transmitter_id=hex_of(REPLAY_USER, device),
        transmitter_ticks=int((at - first).total_seconds()) + 7200,
        display_device="receiver" if "receiver" in name else "android" if "android" in name else "iOS",
        generation="g7" if "g7" in name else "g6",
    )
