"""When to ask again for what is missing: soon at first, then ever more seldom."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from bg_ingest.domain.gaps import Gap
from bg_ingest.domain.windows import Window

FIRST_ASK, ASKS = timedelta(hours=4), 8
"""After 4, 8, 16 ... 512 hours: polls read the first hours again anyway, and after 21 days the weekly sweeps go on."""

HOPELESS = timedelta(days=30)
"""What was measured longer ago is not asked for again: no phone or receiver is known to upload it."""


def next_ask(gaps: Iterable[Gap], after: datetime) -> datetime | None:
    """Return the first instant after one at which any of the gaps is to be asked for."""
    return min((at for gap in gaps for at in _asks(gap) if at > after), default=None)


def to_ask(gaps: Iterable[Gap], since: datetime, now: datetime) -> Window | None:
    """Return a window over those that were due in [since, now], both neighbours of each gap included."""
    due = [gap for gap in gaps if any(since <= at <= now for at in _asks(gap))]
    ends = [gap.before for gap in due if gap.before]
    return Window(min(gap.after for gap in due), max(ends) + timedelta(seconds=1)) if ends else None


def _asks(gap: Gap) -> Iterator[datetime]:
    """Silences are not asked for: each look at what is new does."""
    if gap.before is None or gap.healed_at is not None:
        return
    for number in range(ASKS):
        at = gap.opened_at + FIRST_ASK * 2**number
        if at <= gap.before + HOPELESS:
            yield at
