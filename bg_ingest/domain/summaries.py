"""Answers of the statistics: the figures of a window, of a day and of a bin of the profile, with their counts."""

import datetime as dt
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from bg_ingest.domain.ids import UserId
from bg_ingest.domain.local_time import day_to_date
from bg_ingest.domain.statistics import SUFFICIENT_ACTIVE_PERCENT, SUFFICIENT_DAYS, Figures, Gri, compute_figures
from bg_ingest.domain.weighting import GroupTotals

DAY_SECONDS = 86_400

PROFILE_PERCENTILES = (5, 25, 50, 75, 95)
"""Lines of an ambulatory glucose profile: Johnson 2019, 10.1089/dia.2019.0034."""


class WindowAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Window of an answer, and the choices of the request."""

    user_id: UserId
    start: datetime = msgspec.field(name="from")
    end: datetime = msgspec.field(name="to")
    zone: str
    ranges: str


class Flagged(msgspec.Struct, frozen=True):
    """Numbers of readings beyond the range of the sensor."""

    low: int
    high: int


class Statistics(WindowAnswer, frozen=True, kw_only=True):
    """Counts and figures of a window. Without readings counts are 0 and figures null.

    A struct has one base only. Therefore `DaySummary` repeats the fields from ``readings`` to ``change``.
    """

    days: float
    """Length of the part of the window that is not in the future."""
    sufficient: bool
    """At least 14 days, with readings for at least 70 percent of the time."""
    readings: int
    first: datetime | None
    last: datetime | None
    covered_seconds: int
    active_percent: float
    mean_mg_dl: float | None
    mean_mmol_l: float | None
    sd_mg_dl: float | None
    cv_percent: float | None
    gmi_percent: float | None
    gmi_mmol_mol: float | None
    time_seconds: dict[str, int]
    time_percent: dict[str, float] | None
    lbgi: float | None
    hbgi: float | None
    lowest: int | None
    highest: int | None
    flagged: Flagged
    change: int | None
    """Largest change number of the readings."""
    gri: Gri | None
    percentiles_mg_dl: dict[str, int] | None


class DaySummary(msgspec.Struct, frozen=True, kw_only=True):
    """Counts and figures of one local day."""

    date: dt.date
    seconds: int
    """Length of the part of the day that lies in the window and in the past."""
    readings: int
    first: datetime | None
    last: datetime | None
    covered_seconds: int
    active_percent: float
    mean_mg_dl: float | None
    mean_mmol_l: float | None
    sd_mg_dl: float | None
    cv_percent: float | None
    gmi_percent: float | None
    gmi_mmol_mol: float | None
    time_seconds: dict[str, int]
    time_percent: dict[str, float] | None
    lbgi: float | None
    hbgi: float | None
    lowest: int | None
    highest: int | None
    flagged: Flagged
    change: int | None


class DailyStatistics(WindowAnswer, frozen=True, kw_only=True):
    """Summaries of the local days with readings, ascending."""

    days: list[DaySummary]


class ProfileBin(msgspec.Struct, frozen=True, kw_only=True):
    """Percentiles of the readings of one time of day."""

    time: str
    readings: int
    days: int
    """Number of local days with a reading at this time."""
    p5: int | None
    p25: int | None
    p50: int | None
    p75: int | None
    p95: int | None


class Profile(WindowAnswer, frozen=True, kw_only=True):
    """Every bin of the local day."""

    bin_minutes: int
    profile: list[ProfileBin]
    change: int | None


def summarize_window(window_answer: WindowAnswer, totals: GroupTotals, seconds: int) -> Statistics:
    """Return the statistics of a window, of which ``seconds`` lie in the past."""
    common = _summarize(totals, seconds, window_answer.ranges)
    figures = compute_figures(totals.histogram, window_answer.ranges)
    active = _active_percent(totals, seconds)
    return Statistics(
        **msgspec.structs.asdict(window_answer),
        **common,
        days=round(seconds / DAY_SECONDS, 2),
        sufficient=seconds >= SUFFICIENT_DAYS * DAY_SECONDS and active >= SUFFICIENT_ACTIVE_PERCENT,
        gri=figures.gri,
        percentiles_mg_dl=figures.percentiles_mg_dl,
    )


def summarize_day(day: int, totals: GroupTotals, seconds: int, ranges: str) -> DaySummary:
    """Return the statistics of a local day, given in days since the epoch."""
    return DaySummary(**_summarize(totals, seconds, ranges), date=day_to_date(day), seconds=seconds)


def summarize_profile(window_answer: WindowAnswer, bin_minutes: int, groups: Mapping[int, GroupTotals]) -> Profile:
    """Return every bin of the local day; the keys of ``groups`` are bin numbers."""
    numbers = range(24 * 60 // bin_minutes)
    changes = [totals.change for totals in groups.values() if totals.change is not None]
    return Profile(
        **msgspec.structs.asdict(window_answer),
        bin_minutes=bin_minutes,
        profile=[_summarize_bin(number * bin_minutes, groups.get(number)) for number in numbers],
        change=max(changes, default=None),
    )


def _summarize_bin(minute: int, totals: GroupTotals | None) -> ProfileBin:
    totals = totals or GroupTotals()
    values = totals.histogram.percentiles(PROFILE_PERCENTILES)
    percentiles = {f"p{percent}": values.get(percent) for percent in PROFILE_PERCENTILES}
    time = f"{minute // 60:02}:{minute % 60:02}"
    return ProfileBin(time=time, readings=totals.histogram.count, days=len(totals.days), **percentiles)


_SHARED_FIGURES = tuple(name for name in DaySummary.__struct_fields__ if name in Figures.__struct_fields__)


def _summarize(totals: GroupTotals, seconds: int, ranges: str) -> dict[str, Any]:
    """Return the fields that the summaries of a window and of a day have in common."""
    histogram = totals.histogram
    figures = compute_figures(histogram, ranges)
    return {
        "readings": histogram.count,
        "first": _instant(totals.first),
        "last": _instant(totals.last),
        "covered_seconds": histogram.weight,
        "active_percent": round(_active_percent(totals, seconds), 2),
        "flagged": Flagged(totals.low, totals.high),
        "change": totals.change,
        **{name: getattr(figures, name) for name in _SHARED_FIGURES},
    }


def _active_percent(totals: GroupTotals, seconds: int) -> float:
    return min(100.0, 100 * totals.histogram.weight / seconds) if seconds else 0.0


def _instant(second: int | None) -> datetime | None:
    return None if second is None else datetime.fromtimestamp(second, UTC)
