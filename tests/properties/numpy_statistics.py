"""Statistics recomputed with numpy from the rows of a range, by the formulas of docs/statistics.md alone.

The module shares no code with the service. Rows are the parsed answer of a range with `view=full` and `devices=one`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

Ints: TypeAlias = npt.NDArray[np.int64]

CADENCES = (60, 300, 900)
QUARTER, DAY = 900, 86_400
SECOND = timedelta(seconds=1)
RANGES = {
    "standard": {
        "very_low": (0, 53), "low": (54, 69), "in_range": (70, 180), "high": (181, 250), "very_high": (251, 999),
        "in_tight_range": (70, 140),
    },
    "pregnancy": {"very_low": (0, 53), "low": (54, 62), "in_range": (63, 140), "high": (141, 999)},
}  # fmt: skip
PERCENTILES, PROFILE_PERCENTILES = (5, 10, 25, 50, 75, 90, 95), (5, 25, 50, 75, 95)
CALENDAR_START, CALENDAR_DAYS = datetime(2025, 10, 1, tzinfo=UTC), 200


@dataclass
class Shown:
    """Shown readings in order, as columns."""

    second: Ints
    value: Ints
    weight: Ints
    offset: Ints
    flag: npt.NDArray[np.str_]
    change: Ints

    def select(self, mask: npt.NDArray[np.bool_]) -> "Shown":
        return Shown(*(column[mask] for column in vars(self).values()))

    @property
    def day(self) -> Ints:
        """Local days, counted since the epoch."""
        return (self.second + self.offset) // DAY


@cache
def quarter_offsets(zone: str) -> Ints:
    """Return the offset from UTC of each quarter of an hour of the calendar: clocks change at no other time."""
    quarters = range(CALENDAR_DAYS * DAY // QUARTER)
    first, info = int(CALENDAR_START.timestamp()), ZoneInfo(zone)
    instants = (datetime.fromtimestamp(first + number * QUARTER, info) for number in quarters)
    return np.array([(instant.utcoffset() or timedelta()) // SECOND for instant in instants], dtype=np.int64)


def day_lengths(zone: str, start: int, end: int) -> dict[int, int]:
    """Return the number of seconds from `start` to `end` of each local day, counted by quarters of an hour."""
    first = int(CALENDAR_START.timestamp()) + np.arange(len(quarter_offsets(zone))) * QUARTER
    seconds = np.clip(np.minimum(end, first + QUARTER) - np.maximum(start, first), 0, None)
    days, inverse = np.unique((first + quarter_offsets(zone)) // DAY, return_inverse=True)
    sums = np.bincount(inverse, weights=seconds)
    return {int(day): int(length) for day, length in zip(days, sums, strict=True)}


def read_rows(rows: Sequence[dict[str, Any]], zone: str) -> Shown:
    """Return the rows of a range as columns, with their weights and offsets."""
    named = [(int(datetime.fromisoformat(row["measured_at"]).timestamp()), row["sensor"] or "~", row) for row in rows]
    named.sort(key=lambda entry: entry[:2])
    second = np.array([entry[0] for entry in named], dtype=np.int64)
    ordered = [row for _, _, row in named]
    if zone == "own":
        offset = np.array([row["utc_offset_seconds"] or 0 for row in ordered], dtype=np.int64)
    else:
        offset = quarter_offsets(zone)[(second - int(CALENDAR_START.timestamp())) // QUARTER]
    devices = np.array([f"{row['provider']} {row['sensor']} {row['device']}" for row in ordered])
    cadence = np.zeros(len(second), dtype=np.int64)
    for device in np.unique(devices):
        cadence[devices == device] = learn_cadence(second[devices == device])
    distance = np.append(np.diff(second), 10**6)[: len(second)]
    return Shown(
        second,
        np.array([row["glucose_mg_dl"] for row in ordered], dtype=np.int64),
        np.minimum(distance, cadence),
        offset,
        np.array([row["flag"] for row in ordered], dtype=np.str_),
        np.array([row["change"] for row in ordered], dtype=np.int64),
    )


def learn_cadence(seconds: Ints) -> int:
    """Return the cadence of most distances (within a tenth, three at least); 300 s without a majority."""
    distances = np.diff(np.unique(seconds))
    near = [int(np.sum(np.abs(distances - cadence) <= cadence / 10)) for cadence in CADENCES]
    best = int(np.argmax(near))
    return CADENCES[best] if near[best] >= 3 and 2 * near[best] > len(distances) else 300


def percentile(shown: Shown, percent: int) -> int:
    """Return the smallest value whose cumulative weight reaches a part of the whole, by integers only."""
    order = np.argsort(shown.value, kind="stable")
    cumulative = np.cumsum(shown.weight[order])
    return int(shown.value[order][np.searchsorted(cumulative * 100, percent * cumulative[-1])])


def figures(shown: Shown, ranges: str, span: int) -> dict[str, Any]:
    """Return the fields that a window and a day have in common; the figures are not rounded."""
    value, weight = shown.value, shown.weight
    total, count = int(weight.sum()), len(value)
    seconds = {
        name: int(weight[(value >= low) & (value <= high)].sum()) for name, (low, high) in RANGES[ranges].items()
    }
    known = {
        "readings": count,
        "covered_seconds": total,
        "active_percent": min(100.0, 100 * total / span) if span else 0.0,
        "time_seconds": seconds,
        "flagged": {name: int(np.sum(shown.flag == name)) for name in ("low", "high")},
    }
    names = ("first", "last", "mean_mg_dl", "mean_mmol_l", "sd_mg_dl", "cv_percent", "gmi_percent", "gmi_mmol_mol")
    if not count:
        return known | dict.fromkeys((*names, "time_percent", "lbgi", "hbgi", "lowest", "highest", "change"))
    mean = float(np.average(value, weights=weight))
    deviation = None
    if count > 1:
        deviation = float(np.sqrt(np.average((value - mean) ** 2, weights=weight) * count / (count - 1)))
    risk = 22.77 * (np.log(value) ** 1.084 - 5.381) ** 2 * weight / total
    return known | {
        "first": to_text(shown.second[0]),
        "last": to_text(shown.second[-1]),
        "mean_mg_dl": mean,
        "mean_mmol_l": mean / 18.01559,
        "sd_mg_dl": deviation,
        "cv_percent": None if deviation is None else 100 * deviation / mean,
        "gmi_percent": 3.31 + 0.02392 * mean,
        "gmi_mmol_mol": 12.71 + 4.70587 * mean / 18.01559,
        "time_percent": {name: 100 * part / total for name, part in seconds.items()},
        "lbgi": float(risk[value < 112.5].sum()),
        "hbgi": float(risk[value >= 112.5].sum()),
        "lowest": int(value.min()),
        "highest": int(value.max()),
        "change": int(shown.change.max()),
    }


def window_figures(shown: Shown, ranges: str, span: int) -> dict[str, Any]:
    """Return the statistics of a window, of which `span` seconds lie in the past."""
    found = figures(shown, ranges, span)
    enough = span >= 14 * DAY and found["active_percent"] >= 70
    percents = found["time_percent"]
    return found | {
        "days": span / DAY,
        "sufficient": enough,
        "gri": risk_index(percents) if percents and ranges == "standard" else None,
        "percentiles_mg_dl": {str(each): percentile(shown, each) for each in PERCENTILES} if percents else None,
    }


def risk_index(percents: dict[str, float]) -> dict[str, Any]:
    hypo = percents["very_low"] + 0.8 * percents["low"]
    hyper = percents["very_high"] + 0.5 * percents["high"]
    parts = zip((3.0, 2.4, 1.6, 0.8), ("very_low", "low", "very_high", "high"), strict=True)
    value = min(100.0, sum(factor * percents[name] for factor, name in parts))
    return {"value": value, "zone": "ABCDE"[max(0, int(np.ceil(value / 20)) - 1)], "hypo": hypo, "hyper": hyper}


def day_figures(shown: Shown, ranges: str, zone: str, start: int, end: int) -> list[dict[str, Any]]:
    """Return the statistics of each local day with readings."""
    lengths = {} if zone == "own" else day_lengths(zone, start, end)
    answers = []
    for day in np.unique(shown.day).tolist():
        part = shown.select(shown.day == day)
        if zone == "own":
            begins, ends = day * DAY - int(part.offset[0]), (day + 1) * DAY - int(part.offset[-1])
            lengths[day] = max(0, min(end, ends) - max(start, begins))
        length = lengths[day]
        text = str(date(1970, 1, 1) + timedelta(days=day))
        answers.append({"date": text, "seconds": length, **figures(part, ranges, length)})
    return answers


def profile_bins(shown: Shown, minutes: int) -> list[dict[str, Any]]:
    """Return the percentiles of each bin of the local day."""
    numbers = (shown.second + shown.offset) % DAY // (minutes * 60)
    answers = []
    for number in range(DAY // (minutes * 60)):
        part = shown.select(numbers == number)
        time = f"{number * minutes // 60:02}:{number * minutes % 60:02}"
        values = {f"p{each}": percentile(part, each) if len(part.value) else None for each in PROFILE_PERCENTILES}
        days = len(np.unique(part.day))
        answers.append({"time": time, "readings": len(part.value), "days": days, **values})
    return answers


def to_text(second: int) -> str:
    return datetime.fromtimestamp(int(second), UTC).isoformat().replace("+00:00", "Z")
