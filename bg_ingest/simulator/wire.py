"""Answers of the API: records and pages in the shapes of Dexcom's v3."""

import hashlib
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from uuid import UUID

import msgspec

from bg_ingest.simulator.chance import hex_of
from bg_ingest.simulator.readings import TrueReading


class Record(msgspec.Struct, rename="camel", kw_only=True):
    """One record of the egvs endpoint. Its types are wider than Dexcom's, because faults insert invalid values."""

    record_id: str
    system_time: str
    display_time: str
    transmitter_id: str | None
    transmitter_ticks: int
    value: float | None
    status: str | None
    trend: str
    trend_rate: float | None
    unit: str = "mg/dL"
    rate_unit: str = "mg/dL/min"
    display_device: str
    transmitter_generation: str


class Page(msgspec.Struct, rename="camel", kw_only=True):
    record_type: str = "egv"
    record_version: str = "3.0"
    user_id: str
    records: list[Record]


class Timestamps(msgspec.Struct, rename="camel"):
    system_time: str
    display_time: str


class Extent(msgspec.Struct):
    start: Timestamps
    end: Timestamps


class Extents(msgspec.Struct, rename="camel", kw_only=True):
    """Answer of dataRange; only readings are simulated, so the other two fields are null."""

    record_type: str = "dataRange"
    record_version: str = "3.0"
    user_id: str
    calibrations: Extent | None = None
    readings: Extent | None = msgspec.field(name="egvs")
    events: Extent | None = None


def user_id(seed: int, client_id: str, user: str) -> str:
    """Return Dexcom's id of a user: 64 hexadecimal digits, different for every client."""
    return hex_of(seed, "user", client_id, user)


def record(seed: int, user: str, reading: TrueReading) -> Record:
    """Return the record of a reading. Its id looks random, is reproducible, and survives a revision of the value."""
    timestamps = to_timestamps(reading)
    identity = f"{seed}/{user}/{timestamps.system_time}/{reading.transmitter_id}".encode()
    return Record(
        record_id=str(UUID(bytes=hashlib.blake2b(identity, digest_size=16).digest(), version=4)),
        system_time=timestamps.system_time,
        display_time=timestamps.display_time,
        transmitter_id=reading.transmitter_id,
        transmitter_ticks=reading.transmitter_ticks,
        value=reading.glucose_mg_dl,
        status=reading.flag.value,
        trend=reading.trend,
        trend_rate=reading.trend_rate,
        display_device=reading.display_device,
        transmitter_generation=reading.generation,
    )


def to_timestamps(reading: TrueReading) -> Timestamps:
    """Return both times as text: with Z and UTC offset for phones, without them for a receiver."""
    display = reading.measured_at.astimezone(_zone(reading.utc_offset_seconds))
    if reading.display_device == "receiver":
        return Timestamps(_format_without_zone(reading.measured_at), _format_without_zone(display))
    return Timestamps(f"{_format_without_zone(reading.measured_at)}Z", display.isoformat(timespec="seconds"))


def parse_instant(text: str) -> datetime:
    """Parse a startDate or endDate: `2025-02-06T09:12:35`, read as UTC. ValueError for every other form."""
    if len(text) != 19:
        raise ValueError(text)
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)


def _format_without_zone(at: datetime) -> str:
    return at.replace(tzinfo=None).isoformat(timespec="seconds")


@lru_cache
def _zone(seconds: int) -> timezone:
    return timezone(timedelta(seconds=seconds))
