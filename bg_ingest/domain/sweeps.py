"""When to read again what was read before: late readings are normal, so each night a little, each week a lot."""

from datetime import UTC, datetime, timedelta

import msgspec

DAY = timedelta(days=1)
DAYS_A_WEEK = 7

_FIRST_DAY = datetime(1970, 1, 1, tzinfo=UTC)


class Reach(msgspec.Struct, frozen=True):
    """How far back the sweeps look; nothing where it is zero."""

    nightly: timedelta = timedelta(days=3)
    weekly: timedelta = timedelta(days=30)

    def due(self, since: datetime, now: datetime, jitter: float) -> timedelta:
        """Return how far back a sweep is due that looks over what was not swept since an instant; zero: none is.

        Each connection has an hour of the day and a day of the week of its own, by its jitter. A week's sweep is one
        of the nightly ones that looks further.
        """
        missed = _days(since, now, jitter)
        weekly = any(day % DAYS_A_WEEK == int(jitter * 7_000) % DAYS_A_WEEK for day in missed)
        return max(self.nightly if missed else timedelta(0), self.weekly if weekly else timedelta(0))


def _days(since: datetime, now: datetime, jitter: float) -> list[int]:
    """Number the days whose hour of this connection lies in (since, now]; of a long time the last week is enough."""
    first = (since - _FIRST_DAY - jitter * DAY) // DAY + 1
    last = (now - _FIRST_DAY - jitter * DAY) // DAY
    return list(range(max(first, last - DAYS_A_WEEK + 1), last + 1))
