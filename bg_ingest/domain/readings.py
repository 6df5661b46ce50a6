"""One glucose value at one instant, as we speak of it whoever measured it."""

from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

import msgspec

MG_DL_PER_MMOL_L = 18.01559
"""From the molar mass of glucose, 180.1559 g/mol."""

LOWEST, HIGHEST = 40, 400
"""What CGMs display, in mg/dL. Beyond it they say LOW or HIGH, kept as 39 and 401."""


class Flag(StrEnum):
    """Whether the value is a measurement or only a side of the display range."""

    OK = "ok"
    LOW = "low"
    HIGH = "high"


class Origin(StrEnum):
    """Which look brought a reading."""

    LIVE = "live"
    OVERLAP = "overlap"
    SWEEP = "sweep"
    BACKFILL = "backfill"
    WEBHOOK = "webhook"


class Device(msgspec.Struct, frozen=True, order=True):
    """What measured and showed a reading; two devices may tell of one sensor at the same time."""

    provider: str
    provider_account: str
    """The provider's own id of the person: two logins never mix."""
    transmitter: str | None
    display: str
    """The phone or receiver, in the provider's spelling."""
    generation: str = msgspec.field(default="unknown")


Identity: TypeAlias = tuple[str, str, str | None, str, datetime]
"""Provider, provider account, transmitter, display device, measured second: see ``Reading.identity``."""


class Sent(msgspec.Struct, frozen=True):
    """The value as the provider sent it, kept where ours differs from it (converted, or pinned to a side)."""

    value: float
    unit: str


class Reading(msgspec.Struct, frozen=True):
    """A glucose value: integer mg/dL, 39 and 401 standing for LOW and HIGH."""

    measured_at: datetime
    """UTC, whole seconds."""
    glucose_mg_dl: int
    flag: Flag
    device: Device
    trend: str | None = None
    """In Dexcom's words, which the field has adopted: ``flat``, ``singleUp`` and so on; a new word is kept."""
    trend_rate_mg_dl_min: float | None = None
    utc_offset_seconds: int | None = None
    """What the person's clock showed, where it is known: local time is measured_at plus this."""
    sent: Sent | None = None

    @property
    def identity(self) -> Identity:
        """What makes two records the same reading; the provider's record ids are random and do not."""
        d = self.device
        return (d.provider, d.provider_account, d.transmitter, d.display, self.measured_at)

    def says_the_same(self, other: "Reading") -> bool:
        """Whether the value and its flag agree: a difference elsewhere is no revision."""
        return self.glucose_mg_dl == other.glucose_mg_dl and self.flag == other.flag


class Version(msgspec.Struct, frozen=True):
    """An earlier value of a revised reading, and when and by which change we knew it."""

    glucose_mg_dl: int
    flag: Flag
    recorded_at: datetime
    change: int


class Recorded(msgspec.Struct, frozen=True):
    """A reading as stored."""

    reading: Reading
    recorded_at: datetime
    """When we committed it: UTC, whole milliseconds, never earlier than the user's change before."""
    change: int
    """The change that wrote this value."""
    earlier: tuple[Version, ...] = ()
    """The values it had before, oldest first."""


class Unreadable(msgspec.Struct, frozen=True):
    """A provider's record that is no reading: set aside, so that the rest of its page is stored."""

    reason: str
    """A stable word: it becomes a metric's label. Never a value from the record."""
    raw: bytes
    """The record as it came, JSON. Health data: it must be sealed before it is kept."""
    measured_at: datetime | None = None


def flagged(mg_dl: float) -> tuple[int, Flag]:
    """Round to whole mg/dL and pin what is beyond the display range to its side."""
    whole = round(mg_dl)
    if whole < LOWEST:
        return LOWEST - 1, Flag.LOW
    if whole > HIGHEST:
        return HIGHEST + 1, Flag.HIGH
    return whole, Flag.OK
