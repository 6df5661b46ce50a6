"""Times as callers write them: RFC 3339 with an offset, or a date; what is ambiguous is refused."""

import re
from datetime import UTC, date, datetime, time

from bg_ingest.api.problems import ProblemError, build_problem
from bg_ingest.domain.as_of import SETTLED_AFTER, AsOf
from bg_ingest.domain.commits import Head

MIN_YEAR, MAX_YEAR = 1970, 2999
"""Beyond these no reading can be; a mistyped year is told rather than answered with nothing."""

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")

_TIME = re.compile(
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ](?P<time>[0-9]{2}:[0-9]{2}:[0-9]{2})(?P<fraction>\.[0-9]{1,12})?"
    r"(?P<offset>[Zz]|[+ -][0-9]{2}:[0-9]{2})?\Z"
)


def parse_instant(name: str, text: str | None) -> datetime | None:
    """Read a query parameter as UTC; absent or empty is None, anything unclear a 400 that names it.

    A space before the offset is the ``+`` it was before URL decoding.
    """
    if not text:
        return None
    try:
        found = _parse(name, text)
        if not MIN_YEAR <= found.year <= MAX_YEAR:
            raise _time_problem(name, f"is outside of the years {MIN_YEAR} to {MAX_YEAR}")
        return found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise _time_problem(name, "is no time") from None


def _parse(name: str, text: str) -> datetime:
    if _DATE.match(text):
        return datetime.combine(date.fromisoformat(text), time(), UTC)
    parts = _TIME.match(text)
    if parts is None:
        raise ValueError(text)
    if parts["offset"] is None:
        raise _time_problem(name, "is ambiguous without an offset")
    offset = "+00:00" if parts["offset"] in "Zz" else parts["offset"].replace(" ", "+")
    fraction = (parts["fraction"] or ".0")[:7]
    return datetime.fromisoformat(f"{parts['date']}T{parts['time']}{fraction.ljust(7, '0')}{offset}")


def _time_problem(name: str, what: str) -> ProblemError:
    detail = f"'{name}' {what}: write it like 2025-04-26T14:30:00Z, 2025-04-26T16:30:00+02:00 or 2025-04-26 (UTC)."
    return build_problem(400, "invalid-time", detail)


_NUMBER = re.compile(r"[0-9]{1,12}\Z")


def parse_as_of(time: str | None, change: str | None, now: datetime) -> tuple[AsOf | None, datetime]:
    """Return the point, and when "now" was for it: the time itself, so that the answer is the one given then.

    A change number alone does not say when; "now" stays now.
    """
    if time and change:
        raise _as_of_problem("'as_of' and 'as_of_change' say the same: send one of them")
    if change:
        if not _NUMBER.match(change):
            raise _as_of_problem("'as_of_change' is no change number: send one that an event or view=full told, or 0")
        return AsOf(change=int(change)), now
    at = parse_instant("as_of", time)
    if at is None:
        return None, now
    if at > now - SETTLED_AFTER:
        raise _as_of_problem(
            "'as_of' must be at least a minute ago: until then another replica's commit may still be under way, and "
            "the answer could become another. Ask without it, or with 'as_of_change'"
        )
    return AsOf.at(at), at


def check_reached(point: AsOf | None, head: Head) -> None:
    """Refuse a change that has not happened yet: what will be known is not known."""
    if point and point.change is not None and point.change > head.last_change:
        raise _as_of_problem(f"'as_of_change' is beyond this user's last change, {head.last_change}: send at most that")


def _as_of_problem(what: str) -> ProblemError:
    return build_problem(400, "invalid-as-of", f"{what}.")
