"""Readings as columns with types, for Parquet and Arrow (schema 1).

A column of times holds epoch seconds. The number and the types of the columns are part of the public contract.
"""

from collections.abc import Sequence
from enum import StrEnum
from math import isfinite
from typing import Any, TypeAlias

import msgspec

from bg_ingest.domain.ids import UserId
from bg_ingest.domain.reading_versions import ReadingVersion
from bg_ingest.domain.readings import StoredReading
from bg_ingest.domain.segment_codec import to_epoch_seconds

SCHEMA_VERSION = 1


class ColumnType(StrEnum):
    """Type of the values of a column."""

    STRING = "string"
    INT32 = "int32"
    INT64 = "int64"
    DOUBLE = "double"
    TIME = "time"
    """Epoch seconds, written as a timestamp in milliseconds UTC."""


class Column(msgspec.Struct, frozen=True):
    """Name and type of a column."""

    name: str
    type: ColumnType
    nullable: bool = False


ColumnValues: TypeAlias = list[list[Any]]
"""Values of a batch of rows: one list for each column, in the order of the columns."""

BASIC_COLUMNS = (
    Column("user_id", ColumnType.STRING),
    Column("measured_at", ColumnType.TIME),
    Column("glucose_mg_dl", ColumnType.INT32),
)
FULL_COLUMNS = (
    *BASIC_COLUMNS,
    Column("flag", ColumnType.STRING),
    Column("trend", ColumnType.STRING, nullable=True),
    Column("trend_rate_mg_dl_min", ColumnType.DOUBLE, nullable=True),
    Column("recorded_at", ColumnType.TIME),
    Column("change", ColumnType.INT64),
    Column("utc_offset_seconds", ColumnType.INT32, nullable=True),
    Column("provider", ColumnType.STRING),
    Column("device", ColumnType.STRING),
    Column("sensor", ColumnType.STRING, nullable=True),
)
VERSION_COLUMNS = (
    *FULL_COLUMNS,
    Column("superseded_at", ColumnType.TIME, nullable=True),
    Column("superseded_by", ColumnType.INT64, nullable=True),
)


def basic_columns(user: UserId, points: Sequence[tuple[int, int]]) -> ColumnValues:
    """Return the values of ``BASIC_COLUMNS``; each point is (epoch seconds, mg/dL)."""
    return [[user] * len(points), [second for second, _ in points], [value for _, value in points]]


def full_columns(user: UserId, rows: Sequence[StoredReading]) -> ColumnValues:
    """Return the values of ``FULL_COLUMNS``. A rate that is not finite is null, as in JSON."""
    readings = [row.reading for row in rows]
    rates = [reading.trend_rate_mg_dl_min for reading in readings]
    devices = [reading.device for reading in readings]
    names = {device: device.public_name for device in set(devices)}  # one string object for all rows of a device
    return [
        [user] * len(rows),
        [to_epoch_seconds(reading.measured_at) for reading in readings],
        [reading.glucose_mg_dl for reading in readings],
        [reading.flag.value for reading in readings],
        [reading.trend for reading in readings],
        [rate if rate is not None and isfinite(rate) else None for rate in rates],
        [to_epoch_seconds(row.recorded_at) for row in rows],
        [row.change for row in rows],
        [reading.utc_offset_seconds for reading in readings],
        [device.provider for device in devices],
        [names[device] for device in devices],
        [device.sensor_name for device in devices],
    ]


def version_columns(user: UserId, rows: Sequence[ReadingVersion]) -> ColumnValues:
    """Return the values of ``VERSION_COLUMNS``."""
    return [
        *full_columns(user, [row.stored for row in rows]),
        [to_epoch_seconds(row.superseded_at) if row.superseded_at else None for row in rows],
        [row.superseded_by for row in rows],
    ]
