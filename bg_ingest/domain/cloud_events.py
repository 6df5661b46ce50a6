"""TODO."""

from datetime import datetime
from typing import Any

import msgspec

from bg_ingest.domain.changes import (
    Change,
    ConnectionChanged,
    GapHealed,
    GapOpened,
    ReadingsRecorded,
    ReadingsRevised,
    UserErased,
)
from bg_ingest.domain.gaps import Cause, Gap
from bg_ingest.domain.readings import MG_DL_PER_MMOL_L, Flag, StoredReading

EXCHANGE = "bg.events"

CONTENT_TYPE = "application/cloudevents+json"


class FullReading(msgspec.Struct, frozen=True, kw_only=True):
    """A reading with everything we know of it: ``view=full`` of the API, and in events."""

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
    """Only in a revision's event."""


def public_reading(recorded: StoredReading, *, previous: bool = False) -> FullReading:
    """Return the public form of a reading."""
    reading = recorded.reading
    return FullReading(
        timestamp=reading.measured_at,
        glucose_mg_dl=reading.glucose_mg_dl,
        glucose_mmol_l=round(reading.glucose_mg_dl / MG_DL_PER_MMOL_L, 1),
        flag=reading.flag,
        trend=reading.trend,
        trend_rate_mg_dl_min=reading.trend_rate_mg_dl_min,
        measured_at=reading.measured_at,
        recorded_at=recorded.recorded_at.replace(microsecond=0),
        utc_offset_seconds=reading.utc_offset_seconds,
        provider=reading.device.provider,
        device=f"{reading.device.generation}/{reading.device.display}",
        sensor=reading.device.sensor_name,
        change=recorded.change,
        previous_glucose_mg_dl=recorded.earlier[-1].glucose_mg_dl if previous else msgspec.UNSET,
    )


class PublicGap(msgspec.Struct, frozen=True, kw_only=True, rename={"from_": "from"}):
    """A gap as the API and events show it: half-open, times in whole seconds."""

    provider: str
    from_: datetime
    """When the first missing reading would have been measured."""
    to: datetime | None
    """When the next reading was; null while nothing has come since."""
    cause: Cause
    cadence_seconds: int
    missing: int | None
    """Readings; null while the end is not known."""
    opened_at: datetime
    healed_at: datetime | None


def public_gap(provider: str, gap: Gap) -> PublicGap:
    """Return the public form of a gap."""
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
    """Return the change as a CloudEvents 1.0 structured JSON body.

    ``source`` names the service that tells, a URI reference. The ``data`` is as docs/events.md lists it.
    """
    content = change.data
    data: dict[str, Any] = {"user_id": change.user, "change": change.number}
    match content:
        case ConnectionChanged():
            data |= {"provider": content.provider, "state": content.state, "reason": content.reason}
        case ReadingsRecorded() | ReadingsRevised():
            revised = isinstance(content, ReadingsRevised)
            readings = [public_reading(each, previous=revised) for each in content.readings]
            data |= {"provider": content.provider, "origin": content.origin, "readings": readings}
        case GapOpened() | GapHealed():
            data |= msgspec.to_builtins(public_gap(content.provider, content.gap), builtin_types=(datetime,))
        case UserErased():
            pass
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
