"""Query parameters of readings, and their parsing. A time is RFC 3339 with an offset, or a date."""

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, TypeAlias

import msgspec
from litestar.params import QueryParameter

from bg_ingest.api.problems import ProblemError, build_problem
from bg_ingest.domain.commits import Head
from bg_ingest.domain.reading_filter import FINAL_AFTER, AsOf
from bg_ingest.domain.windows import Window
from bg_ingest.services.queries.readings import resolve_window

ViewName: TypeAlias = Annotated[
    str | None, QueryParameter(name="view", description="`full` has all fields of a reading, `basic` time and value.")
]
From: TypeAlias = Annotated[
    str | None,
    QueryParameter(
        name="from", description="RFC 3339 with an offset, or a date (UTC). 24 hours before `to` by default."
    ),
]
To: TypeAlias = Annotated[
    str | None, QueryParameter(name="to", description="Same form as `from`, exclusive. Now by default.")
]
AsOfTime: TypeAlias = Annotated[
    str | None,
    QueryParameter(
        name="as_of",
        description="Answer as of this time, at least a minute ago. Same form as `from`. Also the default of `to`.",
    ),
]
AsOfChange: TypeAlias = Annotated[
    str | None,
    QueryParameter(name="as_of_change", description="Number of the last change that the answer includes."),
]
Devices: TypeAlias = Annotated[
    str | None,
    QueryParameter(
        name="devices",
        description="`one` has each reading of a sensor once, `all` once for each device that reported it.",
    ),
]

Versions: TypeAlias = Annotated[
    str | None,
    QueryParameter(
        name="versions",
        description="`last` has each reading with its last value. `all` has the readings of each device once per "
        "value, with the time and change that replaced the value.",
    ),
]

Preset: TypeAlias = Annotated[
    str | None,
    QueryParameter(
        name="preset",
        description="CSV for another program: `iglu`, `glupredkit` or `clarity`. Times are local times of `zone`.",
    ),
]

TimeText: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)]
"""Time in the body of a request, in the same form as in a query."""

MIN_YEAR, MAX_YEAR = 1970, 2999
"""No reading can be outside of these years; a mistyped year is refused, not answered with an empty list."""

MAX_SPAN = timedelta(days=3_660)
"""Longest window of an answer that is made as a whole before it is sent: ten years, the longest backfill."""

_NUMBER = re.compile(r"[0-9]{1,12}\Z")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")
_TIME = re.compile(
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ](?P<time>[0-9]{2}:[0-9]{2}:[0-9]{2})(?P<fraction>\.[0-9]{1,12})?"
    r"(?P<offset>[Zz]|[+ -][0-9]{2}:[0-9]{2})?\Z"
)


def is_full_view(name: str | None) -> bool:
    """Parse the name of a view; 400 if there is no such view."""
    if name not in {None, "", "basic", "full"}:
        raise build_problem(400, "invalid-view", "There is no such view: ask view=full or view=basic.")
    return name == "full"


def has_all_devices(devices: str | None) -> bool:
    if devices not in {None, "", "one", "all"}:
        raise build_problem(400, "invalid-devices", "'devices' is neither 'one' nor 'all': send one of these.")
    return devices == "all"


def has_all_versions(versions: str | None, view: str | None, devices: str | None) -> bool:
    """Parse `versions`; 400 if `all` is sent with `view=basic` or `devices=one`."""
    if versions not in {None, "", "last", "all"}:
        raise build_problem(400, "invalid-versions", "'versions' is neither 'last' nor 'all': send one of these.")
    if versions == "all" and (view == "basic" or devices == "one"):
        detail = "'versions=all' has all fields and all devices: leave 'view' and 'devices' out."
        raise build_problem(400, "invalid-versions", detail)
    return versions == "all"


def parse_instant(name: str, text: str | None) -> datetime | None:
    """Parse a query parameter as UTC. None if absent or empty. Any other text that is no time is a 400."""
    return parse_time(name, text) if text else None


def parse_time(name: str, text: str) -> datetime:
    """Parse a text as a time in UTC; 400 if it is not a time.

    A space before the offset is a `+` that URL decoding has replaced.
    """
    try:
        instant = _parse(name, text)
        if not MIN_YEAR <= instant.year <= MAX_YEAR:
            raise _time_problem(name, f"is outside of the years {MIN_YEAR} to {MAX_YEAR}")
        return instant.astimezone(UTC)
    except (ValueError, OverflowError):
        raise _time_problem(name, "is no time") from None


def is_date(text: str) -> bool:
    """Return whether a text has the form of a date, without a time."""
    return _DATE.match(text) is not None


def _parse(name: str, text: str) -> datetime:
    if is_date(text):
        return datetime.combine(date.fromisoformat(text), time(), UTC)
    parts = _TIME.match(text)
    if parts is None:
        raise ValueError(text)
    if parts["offset"] is None:
        raise _time_problem(name, "is ambiguous without an offset")
    offset = "+00:00" if parts["offset"] in "Zz" else parts["offset"].replace(" ", "+")
    fraction = (parts["fraction"] or ".0")[:7]
    return datetime.fromisoformat(f"{parts['date']}T{parts['time']}{fraction.ljust(7, '0')}{offset}")


def _time_problem(name: str, fault: str) -> ProblemError:
    detail = f"'{name}' {fault}: write it like 2025-04-26T14:30:00Z, 2025-04-26T16:30:00+02:00 or 2025-04-26 (UTC)."
    return build_problem(400, "invalid-time", detail)


def requested_window(start: datetime | None, end: datetime | None, now: datetime) -> Window:
    """Return the requested window with defaults for missing ends; 400 if it is empty."""
    try:
        return resolve_window(start, end, now)
    except ValueError:
        detail = "'from' must be before 'to', which is 'as_of' or now by default."
        raise build_problem(400, "invalid-range", detail) from None


def sent_window(start: datetime, end: datetime) -> Window:
    """Return the window between two times of a request; 400 if it is empty."""
    try:
        return Window(start, end)
    except ValueError:
        raise build_problem(400, "invalid-range", "'from' must be before 'to'.") from None


def bounded_window(start: datetime | None, end: datetime | None, now: datetime) -> Window:
    """Return the requested window; 400 if it is empty or longer than `MAX_SPAN`."""
    window = requested_window(start, end, now)
    if window.length > MAX_SPAN:
        detail = f"At most {MAX_SPAN.days} days can be requested at once: send several requests."
        raise build_problem(400, "invalid-range", detail)
    return window


def parse_as_of(time: str | None, change: str | None, now: datetime) -> tuple[AsOf | None, datetime]:
    """Return the requested point, and the time that counts as now for the answer.

    With `as_of`, the requested time counts as now, so the answer equals an answer of that time. Otherwise the present
    counts as now: a change number has no time.
    """
    if time and change:
        raise _as_of_problem("'as_of' and 'as_of_change' exclude each other: send one of them")
    if change:
        if not _NUMBER.match(change):
            raise _as_of_problem("'as_of_change' is no change number: send one from an event or from view=full, or 0")
        return AsOf(change=int(change)), now
    at = parse_instant("as_of", time)
    if at is None:
        return None, now
    if at > now - FINAL_AFTER:
        raise _as_of_problem(
            "'as_of' must be at least a minute ago: until then another replica's commit may still be in progress, and "
            "the answer could still change. Ask without it, or with 'as_of_change'"
        )
    return AsOf.at(at), at


def check_reached(point: AsOf | None, head: Head) -> None:
    """Refuse a change number beyond the last one: the answer would still change."""
    if point and point.change is not None and point.change > head.last_change:
        raise _as_of_problem(f"'as_of_change' is beyond this user's last change, {head.last_change}: send at most that")


def _as_of_problem(fault: str) -> ProblemError:
    return build_problem(400, "invalid-as-of", f"{fault}.")
