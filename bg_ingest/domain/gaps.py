"""What is missing of a user's readings: told by the readings on both sides, and kept by month.

A gap lies between two neighbouring readings of a connection, or after its newest one while nothing comes.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from math import ceil

import msgspec

from bg_ingest.domain.windows import Window


class Cause(StrEnum):
    """Why readings are missing, as far as our own records tell."""

    PROVIDER_HAS_NOTHING = "provider_has_nothing"
    """It answered, and had none: the phone was out of reach, or no sensor worn."""
    SENSOR_WARM_UP = "sensor_warm_up"
    """A new sensor had to warm up."""
    PROVIDER_FAILING = "provider_failing"
    THROTTLED = "throttled"
    PROVIDER_FORBIDDEN = "provider_forbidden"
    REAUTHORIZATION_REQUIRED = "reauthorization_required"
    """The provider refuses the grant, believed yet or not."""
    SERVICE_DOWN = "service_down"
    """Ours: nobody looked, or we could not store or open what was needed."""


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """A missing stretch. ``after`` names it: no other gap of the connection begins there."""

    after: datetime
    """The reading before it."""
    before: datetime | None
    """The reading after it; None while nothing has come since."""
    cadence_seconds: int
    cause: Cause
    opened_at: datetime
    healed_at: datetime | None = None

    @property
    def start(self) -> datetime:
        """When the first missing reading would have been measured."""
        return self.after + timedelta(seconds=self.cadence_seconds)

    @property
    def missing(self) -> int | None:
        """How many readings; None while the end is not known."""
        return missing_count(self.after, self.before, self.cadence_seconds) if self.before else None


class GapMonth(msgspec.Struct, frozen=True):
    """A connection's gaps that begin in one month, as stored."""

    provider: str
    month: datetime
    version: int
    """Counts its writes: the condition of the next. 0 while there is none."""
    gaps: tuple[Gap, ...]


def missing_count(after: datetime, before: datetime, cadence_seconds: int) -> int:
    """Return how many readings lack between two: up to one and a half cadences apart, none."""
    return max(0, ceil((before - after).total_seconds() / cadence_seconds - 0.5) - 1)


def month_start(instant: datetime) -> datetime:
    """Return the start of the month (UTC) in whose ledger a gap after this instant stands."""
    return datetime(instant.year, instant.month, 1, tzinfo=UTC)


def update_months(known: Iterable[GapMonth], provider: str, changed: Sequence[Gap]) -> tuple[GapMonth, ...]:
    """Return the ledgers that change, whole, given those that are known."""
    by_month = {each.month: each for each in known}
    months = sorted({month_start(each.after) for each in changed})
    return tuple(
        _with_gaps(
            by_month.get(month, GapMonth(provider, month, 0, ())), [g for g in changed if month_start(g.after) == month]
        )
        for month in months
    )


def _with_gaps(gap_month: GapMonth, changed: Sequence[Gap]) -> GapMonth:
    gaps = {each.after: each for each in (*gap_month.gaps, *changed)}
    return GapMonth(
        gap_month.provider, gap_month.month, gap_month.version + 1, tuple(gaps[after] for after in sorted(gaps))
    )


FIRST_REPAIR_AFTER, MAX_REPAIRS = timedelta(hours=4), 8
"""After 4, 8, 16 ... 512 hours: polls read the first hours again anyway, and after 21 days the weekly sweeps go on."""

REPAIR_HORIZON = timedelta(days=30)
"""What was measured longer ago is not asked for again: no phone or receiver is known to upload it."""


def next_repair_at(gaps: Iterable[Gap], after: datetime) -> datetime | None:
    """Return the first instant after one at which any of the gaps is to be asked for."""
    return min((at for gap in gaps for at in _repair_times(gap) if at > after), default=None)


def repair_window(gaps: Iterable[Gap], since: datetime, now: datetime) -> Window | None:
    """Return a window over those that were due in [since, now], both neighbours of each gap included."""
    due = [gap for gap in gaps if any(since <= at <= now for at in _repair_times(gap))]
    ends = [gap.before for gap in due if gap.before]
    return Window(min(gap.after for gap in due), max(ends) + timedelta(seconds=1)) if ends else None


def _repair_times(gap: Gap) -> Iterator[datetime]:
    """Silences are not asked for: each look at what is new does."""
    if gap.before is None or gap.healed_at is not None:
        return
    for number in range(MAX_REPAIRS):
        at = gap.opened_at + FIRST_REPAIR_AFTER * 2**number
        if at <= gap.before + REPAIR_HORIZON:
            yield at
