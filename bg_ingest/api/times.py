"""Times as callers write them: RFC 3339 with an offset, or a date; what is ambiguous is refused."""

import re
from datetime import UTC, date, datetime, time

from bg_ingest.api.errors import Refused, refusal

FIRST_YEAR, LAST_YEAR = 1970, 2999
"""Beyond these no reading can be; a mistyped year is told rather than answered with nothing."""

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")
_TIME = re.compile(
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ](?P<time>[0-9]{2}:[0-9]{2}:[0-9]{2})(?P<fraction>\.[0-9]{1,12})?"
    r"(?P<offset>[Zz]|[+ -][0-9]{2}:[0-9]{2})?\Z"
)


def instant(name: str, text: str | None) -> datetime | None:
    """Read a query parameter as UTC; absent or empty is None, anything unclear a 400 that names it.

    A space before the offset is the ``+`` it was before URL decoding.
    """
    if not text:
        return None
    try:
        found = _parsed(name, text)
        if not FIRST_YEAR <= found.year <= LAST_YEAR:
            raise _refused(name, f"is outside of the years {FIRST_YEAR} to {LAST_YEAR}")
        return found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise _refused(name, "is no time") from None


def _parsed(name: str, text: str) -> datetime:
    if _DATE.match(text):
        return datetime.combine(date.fromisoformat(text), time(), UTC)
    parts = _TIME.match(text)
    if parts is None:
        raise ValueError(text)
    if parts["offset"] is None:
        raise _refused(name, "is ambiguous without an offset")
    offset = "+00:00" if parts["offset"] in "Zz" else parts["offset"].replace(" ", "+")
    fraction = (parts["fraction"] or ".0")[:7]
    return datetime.fromisoformat(f"{parts['date']}T{parts['time']}{fraction.ljust(7, '0')}{offset}")


def _refused(name: str, what: str) -> Refused:
    detail = f"'{name}' {what}: write it like 2025-04-26T14:30:00Z, 2025-04-26T16:30:00+02:00 or 2025-04-26 (UTC)."
    return refusal(400, "invalid-time", detail)
