"""Dexcom's timestamps, which have many forms: with and without seconds, fraction and offset."""

import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

_ANY_FORM = re.compile(
    r"""(?P<date>\d{4}-\d{1,2}-\d{1,2})
        (?:[T ](?P<clock>\d{1,2}:\d{1,2}(?::\d{1,2})?)(?P<fraction>[.,]\d{1,9})?)?
        (?P<zone>Z|[+-]\d{2}(?::?\d{2}){0,2})?""",
    re.VERBOSE | re.ASCII | re.IGNORECASE,
)
_WESTMOST, _EASTMOST, _STEP = -12 * 3600, 14 * 3600, 15 * 60
"""Lowest and highest offset of the world's time zones, and a quarter of an hour, of which all offsets are multiples; in
seconds."""


class Stamp(NamedTuple):
    """Timestamp in whole seconds, without its fraction."""

    wall: datetime
    """Time that the clock showed, written as if it were UTC."""
    utc_offset: int | None
    """Offset in seconds; None where the text has none."""

    @property
    def utc(self) -> datetime:
        """Instant; a timestamp without an offset is UTC, as Dexcom's systemTime is."""
        return self.wall - timedelta(seconds=self.utc_offset) if self.utc_offset else self.wall


def parse_stamp(text: str) -> Stamp | None:
    """Return the parsed timestamp, None for an unknown form.

    The forms are those that Tidepool saw in production. Some offsets have seconds, such as ``-06:59:58``, because of
    Dexcom's arithmetic; they are rounded to the minute. The years 1 and 9999 stand for no time.
    """
    try:
        stamp = _parse_common_form(text) or _parse_any_form(text)
    except ValueError:
        return None
    return stamp if stamp and 1 < stamp.wall.year < 9999 else None


def utc_offset_seconds(display: Stamp, measured_at: datetime) -> int | None:
    """Return the wearer's offset: the stated one, else display time minus system time.

    The difference is rounded to a quarter of an hour, which cancels clock drift.
    An offset beyond those of all time zones gives None, because then the display shows a wrong date.
    """
    offset = display.utc_offset
    if offset is None:
        offset = round((display.wall - measured_at).total_seconds() / _STEP) * _STEP
    return offset if _WESTMOST <= offset <= _EASTMOST else None


def _parse_common_form(text: str) -> Stamp | None:
    """Parse ``2025-02-06T10:05:12``, also with ``Z`` or ``-08:00``.

    Nearly all timestamps have this form. The parser of any form takes ten times as long, and ``replace`` as long as
    the rest of this one.
    """
    if len(text) not in {19, 20, 25} or text[10] != "T" or text[16] != ":":
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        return None
    if instant.tzinfo is UTC and not instant.microsecond:
        return Stamp(instant, 0)
    stated = instant.utcoffset()
    return Stamp(instant.replace(microsecond=0, tzinfo=UTC), None if stated is None else int(stated.total_seconds()))


def _parse_any_form(text: str) -> Stamp | None:
    match = _ANY_FORM.fullmatch(text.strip())
    if match is None or (match["clock"] is None and match["zone"]):
        return None
    year, month, day = map(int, match["date"].split("-"))
    hour, minute, second = map(int, f"{match['clock'] or '0:0'}:0".split(":")[:3])
    return Stamp(datetime(year, month, day, hour, minute, second, tzinfo=UTC), _parse_utc_offset(match["zone"]))


def _parse_utc_offset(zone: str | None) -> int | None:
    if zone is None:
        return None
    if zone in "Zz":
        return 0
    digits = zone[1:].replace(":", "").ljust(6, "0")
    hours, minutes, seconds = int(digits[:2]), int(digits[2:4]), int(digits[4:])
    if hours > 23 or minutes > 59 or seconds > 59:
        raise ValueError("no offset")
    rounded = (hours * 60 + minutes + (seconds >= 30)) * 60
    return -rounded if zone[0] == "-" else rounded
