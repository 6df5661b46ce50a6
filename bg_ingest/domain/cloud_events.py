"""Public forms of readings and gaps, and the CloudEvents body of a change."""

from datetime import datetime
from typing import Any

import msgspec

from bg_ingest.domain.changes import Change, ConnectionChanged, GapHealed, GapOpened, ReadingsRecorded, ReadingsRevised
from bg_ingest.domain.gaps import Cause, Gap
from bg_ingest.domain.readings import MG_DL_PER_MMOL_L, Flag, StoredReading

EXCHANGE = "bg.events"
CONTENT_TYPE = "application/cloudevents+json"


class FullReading(msgspec.Struct, frozen=True, kw_only=True):
    """Reading with every field, as shown by ``view=full`` of the API and in events."""

    timestamp: datetime
    glucose_mg_dl: int
    glucose_mmol_l: float
    flag: Flag
    trend: str | None
    trend_rate_mg_dl_min: float | None
    measured_at: datetime
    recorded_at: datetime
    utc_offset_seconds: int | None
    provider: str
    device: str
    sensor: str | None
    change: int
    previous_glucose_mg_dl: int | msgspec.UnsetType = msgspec.UNSET
    """Value before a revision; set only in events of type ``bg.readings.revised.v1``."""


def public_reading(stored: StoredReading, *, previous: bool = False) -> FullReading:
    reading = stored.reading
    return FullReading(
        timestamp=reading.measured_at,
        glucose_mg_dl=reading.glucose_mg_dl,
        glucose_mmol_l=round(reading.glucose_mg_dl / MG_DL_PER_MMOL_L, 1),
        flag=reading.flag,
        trend=reading.trend,
        trend_rate_mg_dl_min=reading.trend_rate_mg_dl_min,
        measured_at=reading.measured_at,
        recorded_at=stored.recorded_at.replace(microsecond=0),
        utc_offset_seconds=reading.utc_offset_seconds,
        provider=reading.device.provider,
        device=reading.device.public_name,
        sensor=reading.device.sensor_name,
        change=stored.change,
        previous_glucose_mg_dl=stored.earlier[-1].glucose_mg_dl if previous else msgspec.UNSET,
    )


class PublicGap(msgspec.Struct, frozen=True, kw_only=True, rename={"from_": "from"}):
    """Gap as shown by the API and in events: half-open, times in whole seconds."""

    provider: str
    from_: datetime
    """Expected measurement time of the first missing reading."""
    to: datetime | None
    """Measurement time of the next reading; null while none has arrived."""
    cause: Cause
    cadence_seconds: int
    missing: int | None
    """Number of missing readings; null while the end is unknown."""
    opened_at: datetime
    healed_at: datetime | None


def public_gap(provider: str, gap: Gap) -> PublicGap:
    return PublicGap(
        provider=provider,
        from_=gap.start,
        to=gap.before,
        cause=gap.cause,
        cadence_seconds=gap.cadence_seconds,
        missing=gap.missing,
        opened_at=gap.opened_at.replace(microsecond=0),
        healed_at=gap.healed_at.replace(microsecond=0) if gap.healed_at else None,
    )


def encode_cloud_event(change: Change, source: str) -> bytes:
    """Encode a change as a CloudEvents 1.0 structured JSON body.

    ``source`` is a URI reference that names the publishing service. ``docs/events.md`` lists the fields of ``data``.
    """
    data: dict[str, Any] = {"user_id": change.user, "change": change.number}
    match change.data:
        case ConnectionChanged(provider, state, reason):
            data |= {"provider": provider, "state": state, "reason": reason}
        case ReadingsRecorded(provider, origin, readings) | ReadingsRevised(provider, origin, readings):
            revised = isinstance(change.data, ReadingsRevised)
            public_readings = [public_reading(stored, previous=revised) for stored in readings]
            data |= {"provider": provider, "origin": origin, "readings": public_readings}
        case GapOpened(provider, gap) | GapHealed(provider, gap):
            data |= msgspec.to_builtins(public_gap(provider, gap), builtin_types=(datetime,))
    return msgspec.json.encode(
        {
            "specversion": "1.0",
            "id": change.id,
            "source": source,
            "type": change.type,
            "subject": change.user,
            "time": change.recorded_at,
            "datacontenttype": "application/json",
            "data": data,
        }
    )
