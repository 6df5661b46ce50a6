"""What downstream is told: numbered changes of a user, and the CloudEvents they become."""

from datetime import datetime
from typing import TypeAlias

import msgspec

from bg_ingest.domain.connections import ConnectionState
from bg_ingest.domain.gaps import Gap
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.readings import Origin, StoredReading


class ReadingsRecorded(msgspec.Struct, frozen=True, tag="readings.recorded"):
    """Readings we did not have before."""

    provider: str
    origin: Origin
    readings: tuple[StoredReading, ...]


class ReadingsRevised(msgspec.Struct, frozen=True, tag="readings.revised"):
    """Readings we had, with another value or flag; each carries its earlier ones."""

    provider: str
    origin: Origin
    readings: tuple[StoredReading, ...]


class ConnectionChanged(msgspec.Struct, frozen=True, tag="connection.changed"):
    """A connection is in another state."""

    provider: str
    state: ConnectionState
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


ChangeData: TypeAlias = ReadingsRecorded | ReadingsRevised | ConnectionChanged | GapOpened | GapHealed | UserErased

EVENT_TYPES: dict[type, str] = {
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
    data: ChangeData

    @property
    def id(self) -> str:
        """The CloudEvents id, the same for every delivery."""
        return f"{self.user}/{self.number}"

    @property
    def type(self) -> str:
        return EVENT_TYPES[type(self.data)]
