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

MICROS_PER_SECOND = 1_000_000

RESERVATION_LIFETIME = 60.0
"""Seconds for which calls taken in advance are good; then they are lost, to us and to the provider's count."""

MARGIN_SECONDS = 73.0
"""Seconds of calls that an hour leaves out: LIFETIME, for calls taken before it, and 13 for clocks that leap."""

BURST_DIVISOR, MIN_BURST = 3_000, 4.0
"""The depth in calls is the hour's limit divided by this, 1.2 seconds' worth, and never less than that."""

MAX_RESERVATION_SHARE = 0.35
"""The largest part of the depth taken at once: the least distance of two priorities that waits matter between."""

FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 30, 900
"""Seconds of a pause where the provider does not say how long: doubled each time the next one follows soon."""

REPEAT_WINDOW = 600
"""Seconds after a pause: a refusal within these says that it was too short."""


class BudgetKey(msgspec.Struct, frozen=True, gc=False):
    """Whose calls a provider counts together."""

    provider: str
    app: str
    """Our client id there."""
    region: str

    def __str__(self) -> str:
        return f"{self.provider}#{self.app}#{self.region}"


class CallDemand(msgspec.Struct, frozen=True, gc=False):
    """What a connection wants while its interval is not stretched."""

    key: BudgetKey
    per_second: float


class BudgetRow(msgspec.Struct, frozen=True):
    """The row. Everything but ``pauses`` is an instant of its own time; nothing was spent before the first row."""

    theoretical_arrival: int = 0
    """Where the calls given out end when they follow each other at the even rate."""
    at: int = 0
    """When it was written."""
    paused_until: int = 0
    """Nobody calls before this."""
    pauses: int = 0
    """Refusals that followed each other, the last pause's included."""


class RowClock(msgspec.Struct, frozen=True):
    """The row's time as far as one process knows it: it never goes back, and goes on by that process's own clock."""

    row_time: int = 0
    local_time: float = 0.0
    """When that was known, in seconds of a clock that only tells durations."""

    def at(self, local_time: float) -> int:
        return self.row_time + round((local_time - self.local_time) * MICROS_PER_SECOND)

    def advance(self, row_time: int, local_time: float) -> "RowClock":
        """Return it with what a row or a clock of instants shows at a moment."""
        return RowClock(row_time, local_time) if row_time > self.at(local_time) else self


class Reservation(msgspec.Struct, frozen=True):
    """What may be had now: ``calls``, once the row is ``after``; or nothing, and when to ask again."""

    calls: int
    after: BudgetRow
    wait: float = 0.0
    """Seconds."""


class ProviderLimit(msgspec.Struct, frozen=True):
    """What a provider allows an app, and how it is given out."""

    calls_per_hour: int

    @property
    def burst(self) -> float:
        """The most calls that may be had at once, after a rest."""
        return max(self.calls_per_hour / BURST_DIVISOR, MIN_BURST)

    @property
    def rate(self) -> float:
        """Calls per second, 98 % of the limit: with depth and spare an hour adds up to the limit."""
        return (self.calls_per_hour - self.burst) / (3600 + MARGIN_SECONDS)

    @property
    def emission_interval(self) -> float:
        """Between two calls at the even rate."""
        return MICROS_PER_SECOND / self.rate

    @property
    def max_reservation(self) -> int:
        """The most calls taken in advance at once, so that a lower priority does not get in between."""
        return max(1, floor(self.burst * MAX_RESERVATION_SHARE))

    def ceiling(self, priority: int) -> int:
        """Return how far calls of a priority, in percent of the depth, may run ahead."""
        return max(1, floor(self.burst * priority / 100))

    def reserve(self, row: BudgetRow, now: int, priority: int, *, max_calls: int, min_calls: int = 1) -> Reservation:
        """Return up to ``most`` calls; nothing, if there are not ``least`` to be had below the priority's ceiling."""
        if row.paused_until > now:
            return Reservation(0, row, (row.paused_until - now) / MICROS_PER_SECOND)
        begin = max(row.theoretical_arrival, now)
        room = self.ceiling(priority) - (begin - now) / self.emission_interval
        min_calls = min(min_calls, self.ceiling(priority))
        if room < min_calls:
            return Reservation(0, row, (min_calls - room) * self.emission_interval / MICROS_PER_SECOND)
        calls = min(max_calls, floor(room))
        return Reservation(
            calls,
            msgspec.structs.replace(row, theoretical_arrival=begin + floor(calls * self.emission_interval), at=now),
        )


def pause_after(row: BudgetRow, now: int, sent: int, wait: float | None) -> BudgetRow:
    """Return the row after the provider refused a call that was sent at such an instant, asking for so many seconds.

    Many calls under way are refused together: that is one pause, as long as the longest that was asked for.
    """
    requested = 0 if wait is None else round(max(wait, 1.0) * MICROS_PER_SECOND)
    if sent <= row.paused_until:
        if now + requested <= row.paused_until:
            return row
        return msgspec.structs.replace(row, at=now, paused_until=now + requested) if requested else row
    follows = row.pauses and sent - row.paused_until < REPEAT_WINDOW * MICROS_PER_SECOND
    pauses = row.pauses + 1 if follows else 1
    length = requested or min(FIRST_PAUSE_SECONDS * 2 ** min(pauses - 1, 16), MAX_PAUSE_SECONDS) * MICROS_PER_SECOND
    return msgspec.structs.replace(row, at=now, paused_until=now + length, pauses=pauses)


def slowdown(demand: float, limit: ProviderLimit, share: int) -> float:
    """Return by what all intervals are multiplied, so that a demand in calls per second fits into a share in percent.

    At least 1. With every process knowing all demands, it is the same for everybody.
    """
    return max(1.0, demand / (limit.rate * share / 100))
