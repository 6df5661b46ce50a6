"""Missing readings of a connection, stored by month.

A gap lies between two neighbouring readings of a connection, or after its newest reading while no other arrives.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from math import ceil

import msgspec

from bg_ingest.domain.windows import Window

FIRST_REPAIR_AFTER, MAX_REPAIRS = timedelta(hours=4), 8
"""Repairs are due 4, 8, 16 ... 512 hours after a gap opened. The overlap of polls covers the gap before the first
repair, and weekly sweeps cover it after the last one (21 days)."""

REPAIR_HORIZON = timedelta(days=30)
"""Readings measured longer ago are not requested again: no phone or receiver is known to upload them."""


class Cause(StrEnum):
    """Cause of a gap, as far as our own records show it."""

    PROVIDER_HAS_NOTHING = "provider_has_nothing"
    """The provider answered without readings: the phone was out of reach, or no sensor was worn."""
    SENSOR_WARM_UP = "sensor_warm_up"
    PROVIDER_FAILING = "provider_failing"
    THROTTLED = "throttled"
    PROVIDER_FORBIDDEN = "provider_forbidden"
    REAUTHORIZATION_REQUIRED = "reauthorization_required"
    """The provider refuses the grant; the refusal may not be final yet."""
    SERVICE_DOWN = "service_down"
    """Failure on our side: no poll ran, or the store or a key was unavailable."""


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """Missing readings. ``after`` identifies the gap: no other gap of the connection begins there."""

    after: datetime
    """Measurement time of the reading before the gap."""
    before: datetime | None
    """Measurement time of the reading after the gap; None for a silence."""
    cadence_seconds: int
    cause: Cause
    opened_at: datetime
    healed_at: datetime | None = None

    @property
    def start(self) -> datetime:
        """Expected measurement time of the first missing reading."""
        return self.after + timedelta(seconds=self.cadence_seconds)

    @property
    def missing(self) -> int | None:
        """Number of missing readings; None while the end is unknown."""
        return missing_count(self.after, self.before, self.cadence_seconds) if self.before else None


class GapMonth(msgspec.Struct, frozen=True):
    """Gaps of a connection that begin in one month, as stored."""

    provider: str
    month: datetime
    version: int
    """Number of writes so far, 0 if the month is not stored yet. A write fails if the number changed since the read."""
    gaps: tuple[Gap, ...]


def missing_count(after: datetime, before: datetime, cadence_seconds: int) -> int:
    """Return the number of readings missing between two readings; 0 if they are at most 1.5 cadences apart."""
    return max(0, ceil((before - after).total_seconds() / cadence_seconds - 0.5) - 1)


def month_start(instant: datetime) -> datetime:
    """Return the start of an instant's month (UTC). A gap is stored under the month of its ``after``."""
    return datetime(instant.year, instant.month, 1, tzinfo=UTC)


def update_months(known: Iterable[GapMonth], provider: str, changed: Sequence[Gap]) -> tuple[GapMonth, ...]:
    """Return the changed months, each with all of its gaps. ``known`` holds the stored months."""
    by_month = {gap_month.month: gap_month for gap_month in known}
    months = []
    for start in sorted({month_start(gap.after) for gap in changed}):
        month = by_month.get(start, GapMonth(provider, start, 0, ()))
        gaps = {gap.after: gap for gap in (*month.gaps, *changed) if month_start(gap.after) == start}
        months.append(GapMonth(provider, start, month.version + 1, tuple(gaps[after] for after in sorted(gaps))))
    return tuple(months)


def next_repair_at(gaps: Iterable[Gap], after: datetime) -> datetime | None:
    """Return the first repair time after the instant ``after``, over all gaps."""
    return min((at for gap in gaps for at in _repair_times(gap) if at > after), default=None)


def repair_window(gaps: Iterable[Gap], since: datetime, now: datetime) -> Window | None:
    """Return a window over the gaps with a repair due in [since, now], including both neighbours of each gap."""
    due = [gap for gap in gaps if any(since <= at <= now for at in _repair_times(gap))]
    ends = [gap.before for gap in due if gap.before]
    return Window(min(gap.after for gap in due), max(ends) + timedelta(seconds=1)) if ends else None


def _repair_times(gap: Gap) -> Iterator[datetime]:
    """Yield the repair times of a gap. A gap without an end has none, because every live poll covers it."""
    if gap.before is None or gap.healed_at is not None:
        return
    times = (gap.opened_at + FIRST_REPAIR_AFTER * 2**number for number in range(MAX_REPAIRS))
    yield from (at for at in times if at <= gap.before + REPAIR_HORIZON)
