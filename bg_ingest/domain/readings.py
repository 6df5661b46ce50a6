"""Glucose readings in a form that is the same for all providers."""

from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from typing import TypeAlias

import msgspec
from msgspec.structs import replace

MG_DL_PER_MMOL_L = 18.01559
"""Derived from the molar mass of glucose, 180.1559 g/mol."""

MIN_DISPLAYED_MG_DL, MAX_DISPLAYED_MG_DL = 40, 400
"""Display range of CGMs, in mg/dL. Values beyond it are shown as LOW or HIGH and stored as 39 and 401."""

MIN_MEASURED_AT = datetime(2015, 1, 1, tzinfo=UTC)
"""Oldest possible reading (Tidepool's floor): an earlier time comes from a receiver that lost its clock."""


class Flag(StrEnum):
    """Distinguishes a measurement from a bound of the display range."""

    OK = "ok"
    LOW = "low"
    HIGH = "high"


class Origin(StrEnum):
    """Kind of fetch or push that delivered a reading."""

    LIVE = "live"
    OVERLAP = "overlap"
    SWEEP = "sweep"
    BACKFILL = "backfill"
    WEBHOOK = "webhook"
    QUARANTINE = "quarantine"
    """A quarantined record that became readable when it was translated again."""


Sensor: TypeAlias = tuple[str, str, str | None]
"""Provider, provider account and transmitter. The account is empty if the transmitter is known."""


class Device(msgspec.Struct, frozen=True, order=True):
    """Sensor and display of a reading. Two devices may report one sensor at the same time."""

    provider: str
    provider_account: str
    """The provider's own id of the person, for one app of ours: another app sees another id."""
    transmitter: str | None
    display: str
    """Phone or receiver, in the provider's spelling."""
    generation: str = msgspec.field(default="unknown")

    @property
    def sensor(self) -> Sensor:
        """Identity of the sensor, equal for all of its displays and for all apps that read it."""
        return identify_sensor(self.provider, self.provider_account, self.transmitter)

    @property
    def sensor_name(self) -> str | None:
        """Short name that distinguishes two sensors worn at once. It reveals nothing of the serial number."""
        return _short_name(self.transmitter) if self.transmitter else None

    @property
    def public_name(self) -> str:
        """Name of the display as shown outside: generation and display."""
        return f"{self.generation}/{self.display}"

    @property
    def display_rank(self) -> tuple[str, str]:
        """Rank among the displays of a sensor. Of several that report a measurement, the smallest rank is shown."""
        return display_rank(self.display)


def identify_sensor(provider: str, provider_account: str, transmitter: str | None) -> Sensor:
    """Return the identity of a sensor. The account is left out if there is a transmitter.

    A transmitter belongs to one person, so its id suffices.
    """
    return provider, "" if transmitter else provider_account, transmitter


@lru_cache
def _short_name(transmitter: str) -> str:
    return blake2b(transmitter.encode(), digest_size=4, person=b"sensor").hexdigest()


def display_rank(display: str) -> tuple[str, str]:
    """Return the sort key of a display, by name: phones (``android``, ``iOS``) come before a ``receiver``.

    Phones are first, because the clock of a receiver is hardly ever set. The order depends on names alone, so that the
    same readings are shown in any order of arrival.
    """
    return display.casefold(), display


Identity: TypeAlias = tuple[str, str, str | None, str, datetime]
"""Sensor, display device, measured second: see ``Reading.identity``."""


class AsSent(msgspec.Struct, frozen=True):
    """Value as sent by the provider, kept if the stored value differs from it (converted or clamped)."""

    value: float
    unit: str


class Reading(msgspec.Struct, frozen=True):
    """Glucose value in whole mg/dL; 39 means LOW, 401 means HIGH."""

    measured_at: datetime
    """UTC, whole seconds."""
    glucose_mg_dl: int
    flag: Flag
    device: Device
    trend: str | None = None
    """One of Dexcom's words, adopted by the industry: ``flat``, ``singleUp`` and so on. Unknown words are kept."""
    trend_rate_mg_dl_min: float | None = None
    utc_offset_seconds: int | None = None
    """Offset of the person's clock, if known: local time is ``measured_at`` plus this."""
    sent: AsSent | None = None

    @property
    def identity(self) -> Identity:
        """Key under which two records are the same reading. It excludes the provider's record ids: they are random."""
        return (*self.device.sensor, self.device.display, self.measured_at)

    def same_value(self, other: "Reading") -> bool:
        """Compare value and flag. A difference in another field is no revision."""
        return self.glucose_mg_dl == other.glucose_mg_dl and self.flag == other.flag


class Version(msgspec.Struct, frozen=True):
    """Value of a reading with the other fields that a revision replaces, and the time and change that recorded it."""

    glucose_mg_dl: int
    flag: Flag
    recorded_at: datetime
    change: int
    trend: str | None = None
    trend_rate_mg_dl_min: float | None = None
    utc_offset_seconds: int | None = None
    sent: AsSent | None = None


_REVISED_FIELDS = tuple(name for name in Version.__struct_fields__ if name in Reading.__struct_fields__)
"""Fields of a reading that a revision replaces."""


class StoredReading(msgspec.Struct, frozen=True):
    """Reading with the commit that recorded it, and its earlier values."""

    reading: Reading
    recorded_at: datetime
    """Time of the commit: UTC, whole milliseconds, later than that of the user's previous change."""
    change: int
    """Number of the change that wrote this value."""
    earlier: tuple[Version, ...] = ()
    """Earlier values, oldest first."""

    @property
    def version(self) -> Version:
        values = {name: getattr(self.reading, name) for name in _REVISED_FIELDS}
        return Version(recorded_at=self.recorded_at, change=self.change, **values)

    def at_version(self, index: int) -> "StoredReading":
        """Return the reading as it was while the version at an index of ``earlier`` was current."""
        version = self.earlier[index]
        reading = replace(self.reading, **{name: getattr(version, name) for name in _REVISED_FIELDS})
        return StoredReading(reading, version.recorded_at, version.change, self.earlier[:index])


class Unreadable(msgspec.Struct, frozen=True):
    """Provider record that cannot be translated. It is quarantined, so that the rest of its page is stored."""

    reason: str
    """Stable word, used as a metric label. It never contains a value of the record."""
    raw: bytes
    """The record as received, JSON. It is health data and must be sealed before it is stored."""
    measured_at: datetime | None = None


def clamp_to_range(mg_dl: float) -> tuple[int, Flag]:
    """Round to whole mg/dL. A value beyond the display range becomes the LOW or HIGH value of that side."""
    whole = round(mg_dl)
    if whole < MIN_DISPLAYED_MG_DL:
        return MIN_DISPLAYED_MG_DL - 1, Flag.LOW
    if whole > MAX_DISPLAYED_MG_DL:
        return MAX_DISPLAYED_MG_DL + 1, Flag.HIGH
    return whole, Flag.OK
