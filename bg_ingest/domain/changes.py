"""Numbered changes of a user, which are published as events."""

from datetime import datetime
from typing import TypeAlias, get_args

import msgspec

from bg_ingest.domain.connections import Connection, ConnectionState
from bg_ingest.domain.gaps import Gap
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.readings import Origin, StoredReading


class ReadingsRecorded(msgspec.Struct, frozen=True, tag="readings.recorded"):
    """Readings that were not stored before."""

    provider: str
    origin: Origin
    readings: tuple[StoredReading, ...]


class ReadingsRevised(msgspec.Struct, frozen=True, tag="readings.revised"):
    """Stored readings whose value or flag changed; each includes its earlier values."""

    provider: str
    origin: Origin
    readings: tuple[StoredReading, ...]


class ConnectionChanged(msgspec.Struct, frozen=True, tag="connection.changed"):
    provider: str
    state: ConnectionState
    reason: str | None


def connection_changed(connection: Connection) -> ConnectionChanged:
    return ConnectionChanged(connection.id.provider, connection.state, connection.reason)


class UserErased(msgspec.Struct, frozen=True, tag="user.erased"):
    """All data of the user is deleted. Unpublished changes with a smaller number are never published."""


class GapOpened(msgspec.Struct, frozen=True, tag="gap.opened"):
    """A new gap, or an open gap that changed: its end became known, or some of its readings arrived."""

    provider: str
    gap: Gap


class GapHealed(msgspec.Struct, frozen=True, tag="gap.healed"):
    """All missing readings of a gap have arrived, or those of its first part.

    After a first part, a later change opens a gap for the rest.
    """

    provider: str
    gap: Gap


ChangeData: TypeAlias = ReadingsRecorded | ReadingsRevised | ConnectionChanged | GapOpened | GapHealed | UserErased

EVENT_TYPES: dict[type, str] = {data: f"bg.{data.__struct_config__.tag}.v1" for data in get_args(ChangeData)}
"""CloudEvents type of each kind of change. It is also the routing key, such as ``bg.gap.opened.v1``."""


class Change(msgspec.Struct, frozen=True):
    """One numbered event of a user. Numbers are contiguous per user over all types, from 1."""

    user: UserId
    number: int
    recorded_at: datetime
    data: ChangeData

    @property
    def id(self) -> str:
        """CloudEvents id, the same for every delivery."""
        return f"{self.user}/{self.number}"

    @property
    def type(self) -> str:
        return EVENT_TYPES[type(self.data)]
