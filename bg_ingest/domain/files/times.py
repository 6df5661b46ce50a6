"""Parser of local times in files: ISO, day first or month first, with 12 or 24 hours."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Literal, TypeAlias

DateOrder: TypeAlias = Literal["dmy", "mdy"]
"""Order of day and month in dates that end with the year, separated by ``/`` or ``-``. With ``.`` the day is first."""

_ORDERS: tuple[DateOrder, DateOrder] = ("dmy", "mdy")
_STEP = timedelta(minutes=16)
"""Longest usual distance of two readings, with a minute of tolerance."""

_CLOCK = r"""(?:T|,?\s+)(?P<hour>\d{1,2})[:.](?P<minute>\d\d)(?:[:.](?P<second>\d\d)(?:[.,]\d{1,9})?)?
             (?:\s*(?P<half>[AP])\.?\s?M\.?)?"""
_YEAR_FIRST = re.compile(rf"(\d{{4}})([-/.])(\d{{1,2}})\2(\d{{1,2}}){_CLOCK}", re.VERBOSE | re.ASCII | re.IGNORECASE)
_YEAR_LAST = re.compile(
    rf"(\d{{1,2}})([-/.])(\d{{1,2}})\2(\d{{4}}|\d\d){_CLOCK}", re.VERBOSE | re.ASCII | re.IGNORECASE
)


def parse_local_time(text: str, order: DateOrder) -> datetime | None:
    """Return the local time without a zone, in whole seconds; None for an unknown form or an impossible date."""
    try:
        local = _parse(text, order)
    except ValueError:
        return None
    return local if local and 1000 <= local.year < 9999 else None


def choose_date_order(texts: Sequence[str]) -> DateOrder | None:
    """Return the order of day and month for the whole file; None if the file does not show it.

    The order under which more texts are dates is chosen. If the numbers are equal, the order under which more readings
    are close to the previous reading is chosen: at midnight, the wrong order jumps by a month.
    """
    parsed = {order: [parse_local_time(text, order) for text in texts] for order in _ORDERS}
    if parsed["dmy"] == parsed["mdy"]:
        return "dmy"
    for count in (_count_dates, _count_steps):
        day_first, month_first = (count(parsed[order]) for order in _ORDERS)
        if day_first != month_first:
            return "dmy" if day_first > month_first else "mdy"
    return None


def _parse(text: str, order: DateOrder) -> datetime | None:
    if (
        len(text) == 19 and text[4] == "-" and text[10] == "T" and text[13] == text[16] == ":"
    ):  # usual; ten times as fast
        return datetime.fromisoformat(text)
    if match := _YEAR_FIRST.fullmatch(text):
        year, month, day = match[1], match[3], match[4]
    elif match := _YEAR_LAST.fullmatch(text):
        year = match[4] if len(match[4]) == 4 else f"20{match[4]}"
        day, month = (match[1], match[3]) if match[2] == "." or order == "dmy" else (match[3], match[1])
    else:
        return None
    hour = int(match["hour"])
    if match["half"]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if match["half"] in "Pp" else 0)
    return datetime(int(year), int(month), int(day), hour, int(match["minute"]), int(match["second"] or 0))  # noqa: DTZ001


def _count_dates(times: Sequence[datetime | None]) -> int:
    return sum(local is not None for local in times)


def _count_steps(times: Sequence[datetime | None]) -> int:
    return sum(abs(later - earlier) <= _STEP for earlier, later in pairwise(filter(None, times)))
