"""A provider's limit of calls, shared by all processes: pure arithmetic over one row for each app and region.

The row says until when the calls given out so far pay the way at an even rate. A call may be had while that is less
than the depth ahead of now, so in any stretch of time, wherever it begins, no more are given than rate x time + depth:
there are no minutes whose ends and beginnings could meet.

Now is the row's own time, in microseconds: the furthest of the clocks that wrote it. Who reads the row learns that it
is at least as late, and counts on from there by a clock that only tells durations. A clock that is ahead, by
whatever it is, therefore gains one depth of calls, once; one that is behind waits for nobody.
"""

from math import floor

import msgspec

SECOND = 1_000_000

LIFETIME = 60.0
"""Seconds for which calls taken in advance are good; then they are lost, to us and to the provider's count."""

SPARE = 73.0
"""Seconds of calls that an hour leaves out: LIFETIME, for calls taken before it, and 13 for clocks that leap."""

DEEPEST, SHALLOWEST = 3_000, 4.0
"""The depth in calls is the hour's limit divided by this, 1.2 seconds' worth, and never less than that."""

HEAD_START = 0.35
"""The largest part of the depth taken at once: the least distance of two priorities that waits matter between."""

FIRST_PAUSE, LONGEST_PAUSE = 30, 900
"""Seconds of a pause where the provider does not say how long: doubled each time the next one follows soon."""

SOON = 600
"""Seconds after a pause: a refusal within these says that it was too short."""


class App(msgspec.Struct, frozen=True, gc=False):
    """Whose calls a provider counts together."""

    provider: str
    app: str
    """Our client id there."""
    region: str

    def __str__(self) -> str:
        return f"{self.provider}#{self.app}#{self.region}"


class Want(msgspec.Struct, frozen=True, gc=False):
    """What a connection wants while its interval is not stretched."""

    app: App
    per_second: float


class Spending(msgspec.Struct, frozen=True):
    """The row. Everything but ``pauses`` is an instant of its own time; nothing was spent before the first row."""

    paid_until: int = 0
    """Where the calls given out end when they follow each other at the even rate."""
    at: int = 0
    """When it was written."""
    paused_until: int = 0
    """Nobody calls before this."""
    pauses: int = 0
    """Refusals that followed each other, the last pause's included."""


class RowTime(msgspec.Struct, frozen=True):
    """The row's time as far as one process knows it: it never goes back, and goes on by that process's own clock."""

    known: int = 0
    moment: float = 0.0
    """When that was known, in seconds of a clock that only tells durations."""

    def at(self, moment: float) -> int:
        return self.known + round((moment - self.moment) * SECOND)

    def following(self, shown: int, moment: float) -> "RowTime":
        """Return it with what a row or a clock of instants shows at a moment."""
        return RowTime(shown, moment) if shown > self.at(moment) else self


class Sale(msgspec.Struct, frozen=True):
    """What may be had now: ``calls``, once the row is ``after``; or nothing, and when to ask again."""

    calls: int
    after: Spending
    wait: float = 0.0
    """Seconds."""


class Limit(msgspec.Struct, frozen=True):
    """What a provider allows an app, and how it is given out."""

    calls_per_hour: int

    @property
    def depth(self) -> float:
        """The most calls that may be had at once, after a rest."""
        return max(self.calls_per_hour / DEEPEST, SHALLOWEST)

    @property
    def rate(self) -> float:
        """Calls per second, 98 % of the limit: with depth and spare an hour adds up to the limit."""
        return (self.calls_per_hour - self.depth) / (3600 + SPARE)

    @property
    def gap(self) -> float:
        """Between two calls at the even rate."""
        return SECOND / self.rate

    @property
    def most(self) -> int:
        """The most calls taken in advance at once, so that a lower priority does not get in between."""
        return max(1, floor(self.depth * HEAD_START))

    def ceiling(self, priority: int) -> int:
        """Return how far calls of a priority, in percent of the depth, may run ahead."""
        return max(1, floor(self.depth * priority / 100))

    def sale(self, row: Spending, now: int, priority: int, *, most: int, least: int = 1) -> Sale:
        """Return up to ``most`` calls; nothing, if there are not ``least`` to be had below the priority's ceiling."""
        if row.paused_until > now:
            return Sale(0, row, (row.paused_until - now) / SECOND)
        begin = max(row.paid_until, now)
        room = self.ceiling(priority) - (begin - now) / self.gap
        least = min(least, self.ceiling(priority))
        if room < least:
            return Sale(0, row, (least - room) * self.gap / SECOND)
        calls = min(most, floor(room))
        return Sale(calls, msgspec.structs.replace(row, paid_until=begin + floor(calls * self.gap), at=now))


def paused(row: Spending, now: int, sent: int, wait: float | None) -> Spending:
    """Return the row after the provider refused a call that was sent at such an instant, asking for so many seconds.

    Many calls under way are refused together: that is one pause, as long as the longest that was asked for.
    """
    asked = 0 if wait is None else round(max(wait, 1.0) * SECOND)
    if sent <= row.paused_until:
        if now + asked <= row.paused_until:
            return row
        return msgspec.structs.replace(row, at=now, paused_until=now + asked) if asked else row
    follows = row.pauses and sent - row.paused_until < SOON * SECOND
    pauses = row.pauses + 1 if follows else 1
    length = asked or min(FIRST_PAUSE * 2 ** min(pauses - 1, 16), LONGEST_PAUSE) * SECOND
    return msgspec.structs.replace(row, at=now, paused_until=now + length, pauses=pauses)


def stretch(demand: float, limit: Limit, share: int) -> float:
    """Return by what all intervals are multiplied, so that a demand in calls per second fits into a share in percent.

    At least 1. With every process knowing all demands, it is the same for everybody.
    """
    return max(1.0, demand / (limit.rate * share / 100))
