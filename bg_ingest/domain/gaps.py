"""What is missing of a user's readings: told by the readings on both sides, and kept by month.

A gap lies between two neighbouring readings of a connection, or after its newest one while nothing comes.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from math import ceil

import msgspec


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
        return missing(self.after, self.before, self.cadence_seconds) if self.before else None


class Ledger(msgspec.Struct, frozen=True):
    """A connection's gaps that begin in one month, as stored."""

    provider: str
    month: datetime
    version: int
    """Counts its writes: the condition of the next. 0 while there is none."""
    gaps: tuple[Gap, ...]


def missing(after: datetime, before: datetime, cadence_seconds: int) -> int:
    """Return how many readings lack between two: up to one and a half cadences apart, none."""
    return max(0, ceil((before - after).total_seconds() / cadence_seconds - 0.5) - 1)


def month_of(instant: datetime) -> datetime:
    """Return the start of the month (UTC) in whose ledger a gap after this instant stands."""
    return datetime(instant.year, instant.month, 1, tzinfo=UTC)


def rewritten(known: Iterable[Ledger], provider: str, changed: Sequence[Gap]) -> tuple[Ledger, ...]:
    """Return the ledgers that change, whole, given those that are known."""
    by_month = {each.month: each for each in known}
    months = sorted({month_of(each.after) for each in changed})
    return tuple(
        _with(by_month.get(month, Ledger(provider, month, 0, ())), [g for g in changed if month_of(g.after) == month])
        for month in months
    )


def _with(ledger: Ledger, changed: Sequence[Gap]) -> Ledger:
    gaps = {each.after: each for each in (*ledger.gaps, *changed)}
    return Ledger(ledger.provider, ledger.month, ledger.version + 1, tuple(gaps[after] for after in sorted(gaps)))
