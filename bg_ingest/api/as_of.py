"""The query's ``as_of`` and ``as_of_change``: what was known then, or nothing that could still become otherwise."""

import re
from datetime import datetime

from bg_ingest.api.errors import Refused, refusal
from bg_ingest.api.times import instant
from bg_ingest.domain.as_of import SETTLED_AFTER, AsOf
from bg_ingest.domain.commits import Head

_NUMBER = re.compile(r"[0-9]{1,12}\Z")


def as_of(time: str | None, change: str | None, now: datetime) -> tuple[AsOf | None, datetime]:
    """Return the point, and when "now" was for it: the time itself, so that the answer is the one given then.

    A change number alone does not say when; "now" stays now.
    """
    if time and change:
        raise _refused("'as_of' and 'as_of_change' say the same: send one of them")
    if change:
        if not _NUMBER.match(change):
            raise _refused("'as_of_change' is no change number: send one that an event or view=full told, or 0")
        return AsOf(change=int(change)), now
    at = instant("as_of", time)
    if at is None:
        return None, now
    if at > now - SETTLED_AFTER:
        raise _refused(
            "'as_of' must be at least a minute ago: until then another replica's commit may still be under way, and "
            "the answer could become another. Ask without it, or with 'as_of_change'"
        )
    return AsOf.at(at), at


def check_reached(point: AsOf | None, head: Head) -> None:
    """Refuse a change that has not happened yet: what will be known is not known."""
    if point and point.change is not None and point.change > head.last_change:
        raise _refused(f"'as_of_change' is beyond this user's last change, {head.last_change}: send at most that")


def _refused(what: str) -> Refused:
    return refusal(400, "invalid-as-of", f"{what}.")
