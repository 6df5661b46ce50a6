"""What downstream is told: numbered changes of a user, and the CloudEvents they become."""

from datetime import datetime
from typing import Any, TypeAlias

import msgspec

from bg_ingest.domain.connections import State
from bg_ingest.domain.gaps import Cause, Gap
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.readings import MG_DL_PER_MMOL_L, Flag, Origin, Recorded

EXCHANGE = "bg.events"
CONTENT_TYPE = "application/cloudevents+json"


class ReadingsRecorded(msgspec.Struct, frozen=True, tag="readings.recorded"):
    """Readings we did not have before."""

    provider: str
    origin: Origin
    readings: tuple[Recorded, ...]


class ReadingsRevised(msgspec.Struct, frozen=True, tag="readings.revised"):
    """Readings we had, with another value or flag; each carries its earlier ones."""

    provider: str
    origin: Origin
    readings: tuple[Recorded, ...]


class ConnectionChanged(msgspec.Struct, frozen=True, tag="connection.changed"):
    """A connection is in another state."""

    provider: str
    state: State
    reason: str | None


class UserErased(msgspec.Struct, frozen=True, tag="user.erased"):
    """All we held of the user is gone. Numbers before this one that were not told yet never will be."""


class GapOpened(msgspec.Struct, frozen=True, tag="gap.opened"):
    """Readings are missing, or of an open gap more is known now: its end, or that part of it came."""

    provider: str
    gap: Gap


class GapHealed(msgspec.Struct, frozen=True, tag="gap.healed"):
    """What was missing has come; what still is of the same stretch is told as opened right after."""

    provider: str
    gap: Gap


Happening: TypeAlias = ReadingsRecorded | ReadingsRevised | ConnectionChanged | GapOpened | GapHealed | UserErased

TYPES: dict[type, str] = {
    ReadingsRecorded: "bg.readings.recorded.v1",
    ReadingsRevised: "bg.readings.revised.v1",
    ConnectionChanged: "bg.connection.changed.v1",
    GapOpened: "bg.gap.opened.v1",
    GapHealed: "bg.gap.healed.v1",
    UserErased: "bg.user.erased.v1",
}
"""The CloudEvents type, which is also the routing key."""


class Change(msgspec.Struct, frozen=True):
    """One numbered event of a user. Numbers are contiguous per user over all types, from 1."""

    user: UserId
    number: int
    recorded_at: datetime
    what: Happening

    @property
    def id(self) -> str:
        """The CloudEvents id, the same for every delivery."""
        return f"{self.user}/{self.number}"

    @property
    def type(self) -> str:
        return TYPES[type(self.what)]


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


def full(recorded: Recorded, *, previous: bool = False) -> FullReading:
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


def public(provider: str, gap: Gap) -> PublicGap:
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


def cloud_event(change: Change, source: str) -> bytes:
    """Return the change as a CloudEvents 1.0 structured JSON body.

    ``source`` names the service that tells, a URI reference. The ``data`` is as docs/events.md lists it.
    """
    what = change.what
    data: dict[str, Any] = {"user_id": change.user, "change": change.number}
    match what:
        case ConnectionChanged():
            data |= {"provider": what.provider, "state": what.state, "reason": what.reason}
        case ReadingsRecorded() | ReadingsRevised():
            revised = isinstance(what, ReadingsRevised)
            readings = [full(each, previous=revised) for each in what.readings]
            data |= {"provider": what.provider, "origin": what.origin, "readings": readings}
        case GapOpened() | GapHealed():
            data |= msgspec.to_builtins(public(what.provider, what.gap), builtin_types=(datetime,))
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
