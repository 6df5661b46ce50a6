"""Query parameters of statistics, profile and series."""

import re
from datetime import date, datetime, timedelta
from typing import Annotated, TypeAlias

from litestar.params import QueryParameter

from bg_ingest.api import query
from bg_ingest.api.problems import ProblemError, build_problem
from bg_ingest.domain.local_time import OWN, Zone
from bg_ingest.domain.series import BIN_SECONDS, DEFAULT_POINTS, MAX_BINS, MAX_POINTS, Bins, has_too_many, smallest_bin
from bg_ingest.domain.statistics import RANGES
from bg_ingest.domain.windows import Window

DEFAULT_DAYS, MAX_DAYS = 14, 366
"""Length of a window without a start, and of the longest window of statistics."""

PROFILE_BINS = {"5m": 5, "15m": 15, "30m": 30, "1h": 60}
"""Names of the bins of a profile, and their lengths in minutes."""

From: TypeAlias = Annotated[
    str | None,
    QueryParameter(name="from", description="RFC 3339 with an offset, or a date. 14 days before `to` by default."),
]
ZoneName: TypeAlias = Annotated[
    str | None,
    QueryParameter(
        name="zone",
        description="Local time: `own` (the offset of each reading), `UTC`, or an IANA name such as Europe/Berlin.",
    ),
]
SeriesZone: TypeAlias = Annotated[
    str | None, QueryParameter(name="zone", description="Zone of days: `UTC`, or an IANA name such as Europe/Berlin.")
]
RangesName: TypeAlias = Annotated[
    str | None, QueryParameter(name="ranges", description="Bounds of the ranges: `standard` or `pregnancy`.")
]
ProfileBinName: TypeAlias = Annotated[
    str | None, QueryParameter(name="bin", description=f"Length of a bin: {', '.join(PROFILE_BINS)}. 15m by default.")
]
SeriesBinName: TypeAlias = Annotated[
    str | None, QueryParameter(name="bin", description=f"Length of a bin: {', '.join(BIN_SECONDS)}.")
]
Points: TypeAlias = Annotated[
    str | None,
    QueryParameter(
        name="points",
        description=f"Largest number of bins, 1 to {MAX_POINTS:,}; their length follows from it. Not with `bin`. "
        f"{DEFAULT_POINTS} by default.",
    ),
]


def parse_zone(name: str | None, default: str = OWN) -> Zone:
    """Return the zone of a request; 400 if it is unknown. `own` is valid only where it is the default."""
    chosen = name or default
    try:
        return Zone("" if chosen == OWN != default else chosen)
    except ValueError:
        own = "'own', " if default == OWN else ""
        detail = f"There is no such zone: send {own}'UTC' or an IANA name such as Europe/Berlin."
        raise build_problem(400, "invalid-zone", detail) from None


def parse_bound(name: str, text: str | None, zone: Zone) -> datetime | None:
    """Parse `from` or `to`. A date is the midnight of the zone; in the zone `own` it is the midnight of UTC."""
    instant = query.parse_instant(name, text)
    if text and instant is not None and query.is_date(text):
        return zone.midnight_of(date.fromisoformat(text))
    return instant


def parse_window(from_: datetime | None, to: datetime | None, now: datetime, *, max_days: int | None) -> Window:
    """Return the requested window in whole seconds, by default the last 14 days; 400 if it is empty or too long.

    Sent bounds are rounded up. That selects the same readings, because times of measurement are whole seconds.
    """
    end = now.replace(microsecond=0) if to is None else _rounded_up(to)
    start = end - timedelta(days=DEFAULT_DAYS) if from_ is None else _rounded_up(from_)
    window = query.requested_window(start, end, now)
    if max_days is not None and window.length > timedelta(days=max_days):
        detail = f"The window is longer than {max_days} days: ask for a shorter one."
        raise build_problem(400, "invalid-range", detail)
    return window


def _rounded_up(instant: datetime) -> datetime:
    return (instant + timedelta(microseconds=999_999)).replace(microsecond=0)


def parse_ranges(name: str | None) -> str:
    if (name or "standard") not in RANGES:
        raise build_problem(400, "invalid-ranges", f"There are no such ranges: send {' or '.join(RANGES)}.")
    return name or "standard"


def parse_profile_bin(name: str | None) -> int:
    """Return the minutes of a bin of the profile."""
    if (name or "15m") not in PROFILE_BINS:
        raise _bin_problem(f"There is no such bin: send one of {', '.join(PROFILE_BINS)}")
    return PROFILE_BINS[name or "15m"]


def parse_bins(name: str | None, points: str | None, window: Window, zone: Zone) -> Bins:
    """Return the bins of a series; 400 for a bad parameter, or for more bins than an answer may have."""
    if name and points:
        raise _bin_problem("'bin' and 'points' exclude each other: send one of them")
    if name:
        if name not in BIN_SECONDS:
            raise _bin_problem(f"There is no such bin: send one of {', '.join(BIN_SECONDS)}")
        if has_too_many(window, name, zone):
            raise _too_many_bins(window, zone)
        return Bins(window, name, zone)
    if points and not (re.fullmatch("[0-9]{1,9}", points) and 1 <= int(points) <= MAX_POINTS):
        raise _bin_problem(f"'points' is a number from 1 to {MAX_POINTS}")
    chosen = smallest_bin(window, zone, int(points) if points else DEFAULT_POINTS)
    if chosen is None and has_too_many(window, "1d", zone):
        raise _too_many_bins(window, zone)
    if chosen is None:
        detail = "There are more days than 'points', and no bin is longer than a day: send a larger 'points', or 'bin'."
        raise build_problem(400, "too-many-bins", detail, smallest="1d")
    return Bins(window, chosen, zone)


def _bin_problem(fault: str) -> ProblemError:
    return build_problem(400, "invalid-bin", f"{fault}.")


def _too_many_bins(window: Window, zone: Zone) -> ProblemError:
    smallest = smallest_bin(window, zone, MAX_BINS)
    advice = f"send bin={smallest} or a larger one" if smallest else "send a shorter window"
    detail = f"The window has more bins than an answer may have ({MAX_BINS}): {advice}."
    return build_problem(400, "too-many-bins", detail, smallest=smallest)
