"""One glucose value at one instant, as we speak of it whoever measured it."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from typing import TypeAlias

import msgspec

MG_DL_PER_MMOL_L = 18.01559
"""From the molar mass of glucose, 180.1559 g/mol."""

MIN_DISPLAYED_MG_DL, MAX_DISPLAYED_MG_DL = 40, 400
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
    QUARANTINE = "quarantine"
    """A record that could not be read at first, and was translated again."""


class Device(msgspec.Struct, frozen=True, order=True):
    """What measured and showed a reading; two devices may tell of one sensor at the same time."""

    provider: str
    provider_account: str
    """The provider's own id of the person: two logins never mix."""
    transmitter: str | None
    display: str
    """The phone or receiver, in the provider's spelling."""
    generation: str = msgspec.field(default="unknown")

    @property
    def sensor(self) -> tuple[str, str, str | None]:
        """What measured, whichever device showed it."""
        return self.provider, self.provider_account, self.transmitter

    @property
    def sensor_name(self) -> str | None:
        """A short name of the sensor, to tell two that are worn at once apart; it says nothing of the serial number."""
        return _short_name(self.transmitter) if self.transmitter else None

    @property
    def display_rank(self) -> tuple[str, str]:
        """Of two devices that tell of one sensor's same second, the smaller is shown: see ``precedence``."""
        return display_rank(self.display)


@lru_cache
def _short_name(transmitter: str) -> str:
    return blake2b(transmitter.encode(), digest_size=4, person=b"sensor").hexdigest()


def display_rank(display: str) -> tuple[str, str]:
    """Order devices by name: phones (``android``, ``iOS``) come before a ``receiver``, whose clock nobody sets.

    The names alone decide, not who came first: the same readings are shown alike in whatever order they arrived.
    """
    return display.casefold(), display


Identity: TypeAlias = tuple[str, str, str | None, str, datetime]
"""Provider, provider account, transmitter, display device, measured second: see ``Reading.identity``."""


class AsSent(msgspec.Struct, frozen=True):
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
    sent: AsSent | None = None

    @property
    def identity(self) -> Identity:
        """What makes two records the same reading; the provider's record ids are random and do not."""
        d = self.device
        return (d.provider, d.provider_account, d.transmitter, d.display, self.measured_at)

    def same_value(self, other: "Reading") -> bool:
        """Whether the value and its flag agree: a difference elsewhere is no revision."""
        return self.glucose_mg_dl == other.glucose_mg_dl and self.flag == other.flag


class Version(msgspec.Struct, frozen=True):
    """An earlier value of a revised reading with all that came with it, and when and by which change we knew it."""

    glucose_mg_dl: int
    flag: Flag
    recorded_at: datetime
    change: int
    trend: str | None = None
    trend_rate_mg_dl_min: float | None = None
    utc_offset_seconds: int | None = None
    sent: AsSent | None = None


class StoredReading(msgspec.Struct, frozen=True):
    """A reading as stored."""

    reading: Reading
    recorded_at: datetime
    """When we committed it: UTC, whole milliseconds, never earlier than the user's change before."""
    change: int
    """The change that wrote this value."""
    earlier: tuple[Version, ...] = ()
    """The values it had before, oldest first."""

    @property
    def version(self) -> Version:
        """Return what of it a revision replaces."""
        r = self.reading
        return Version(
            r.glucose_mg_dl,
            r.flag,
            self.recorded_at,
            self.change,
            r.trend,
            r.trend_rate_mg_dl_min,
            r.utc_offset_seconds,
            r.sent,
        )

    def at_version(self, index: int) -> "StoredReading":
        """Return the reading as the version at a place of ``earlier`` had it."""
        v = self.earlier[index]
        reading = msgspec.structs.replace(
            self.reading,
            glucose_mg_dl=v.glucose_mg_dl,
            flag=v.flag,
            trend=v.trend,
            trend_rate_mg_dl_min=v.trend_rate_mg_dl_min,
            utc_offset_seconds=v.utc_offset_seconds,
            sent=v.sent,
        )
        return StoredReading(reading, v.recorded_at, v.change, self.earlier[:index])


def select_one_per_sensor(readings: Sequence[StoredReading]) -> Sequence[StoredReading]:
    """Leave out what a second device tells of a sensor's same second; ascending readings stay ascending."""
    devices = {id(each.reading.device) for each in readings}
    if len(devices) <= 1:  # nearly always, and asked of every reading there is
        return readings
    shown: dict[object, StoredReading] = {}
    for each in readings:
        key = each.reading.measured_at, each.reading.device.sensor
        rival = shown.setdefault(key, each)
        if each.reading.device.display_rank < rival.reading.device.display_rank:
            shown[key] = each
    return tuple(shown.values())


def newest_reading(readings: Iterable[StoredReading]) -> StoredReading | None:
    """Return the newest reading; of several at one second always the same, and of equals the first."""
    found = list(readings)
    second = max((each.reading.measured_at for each in found), default=None)
    last = [each for each in found if each.reading.measured_at == second]
    return min(last, key=lambda each: (each.reading.device.display_rank, _sensor_key(each)), default=None)


def _sensor_key(each: StoredReading) -> tuple[str, ...]:
    return tuple(part or "" for part in each.reading.device.sensor)


class Unreadable(msgspec.Struct, frozen=True):
    """A provider's record that is no reading: set aside, so that the rest of its page is stored."""

    reason: str
    """A stable word: it becomes a metric's label. Never a value from the record."""
    raw: bytes
    """The record as it came, JSON. Health data: it must be sealed before it is kept."""
    measured_at: datetime | None = None


def clamp_to_range(mg_dl: float) -> tuple[int, Flag]:
    """Round to whole mg/dL and pin what is beyond the display range to its side."""
    whole = round(mg_dl)
    if whole < MIN_DISPLAYED_MG_DL:
        return MIN_DISPLAYED_MG_DL - 1, Flag.LOW
    if whole > MAX_DISPLAYED_MG_DL:
        return MAX_DISPLAYED_MG_DL + 1, Flag.HIGH
    return whole, Flag.OK
