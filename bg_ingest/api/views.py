"""Shapes of the readings in an answer, each in all formats."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

import msgspec

from bg_ingest.api.formats import ARROW, JSON, NDJSON, PARQUET, ColumnarFormat, Format, csv_format, encode_stream
from bg_ingest.api.points import CSV_POINTS, JSON_POINTS, NDJSON_POINTS
from bg_ingest.api.schemas import to_full, to_versions
from bg_ingest.domain.cloud_events import FullReading
from bg_ingest.domain.columns import (
    BASIC_COLUMNS,
    FULL_COLUMNS,
    VERSION_COLUMNS,
    Column,
    ColumnValues,
    basic_columns,
    full_columns,
    version_columns,
)
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.reading_filter import ReadingFilter
from bg_ingest.domain.windows import Window
from bg_ingest.ports import ColumnarEncoder
from bg_ingest.services.pauses import pause
from bg_ingest.services.queries.readings import ReadingQueries


class View(msgspec.Struct, frozen=True):
    """One shape of the readings of a range: query of their batches, public form, formats, and columns."""

    batches: Callable[[ReadingQueries, UserId, Window, ReadingFilter], AsyncGenerator[Sequence[Any]]]
    present: Callable[[Sequence[Any]], Sequence[Any]]
    formats: tuple[Format | ColumnarFormat, ...]
    columns: tuple[Column, ...]
    to_columns: Callable[[UserId, Sequence[Any]], ColumnValues]

    def encode(
        self,
        user: UserId,
        batches: AsyncGenerator[Sequence[Any]],
        form: Format | ColumnarFormat,
        encoder: ColumnarEncoder,
    ) -> AsyncGenerator[bytes]:
        """Yield the whole answer."""
        if isinstance(form, Format):
            return encode_stream(batches, self.present, form)
        return encoder.encode(form.form, self.columns, self._iter_columns(user, batches), {})

    async def _iter_columns(self, user: UserId, batches: AsyncGenerator[Sequence[Any]]) -> AsyncGenerator[ColumnValues]:
        async with aclosing(batches):
            async for rows in batches:
                yield self.to_columns(user, rows)
                await pause()  # a segment of a 1-minute sensor has 360 rows


FULL_NAMES = tuple(name for name in FullReading.__struct_fields__ if name != "previous_glucose_mg_dl")
VERSION_NAMES = (*FULL_NAMES, "superseded_at", "superseded_by")


def _formats(names: tuple[str, ...]) -> tuple[Format | ColumnarFormat, ...]:
    return JSON, csv_format(names), NDJSON, PARQUET, ARROW


BASIC = View(
    ReadingQueries.points,
    lambda points: points,
    (JSON_POINTS, CSV_POINTS, NDJSON_POINTS, PARQUET, ARROW),
    BASIC_COLUMNS,
    basic_columns,
)
FULL = View(ReadingQueries.readings, to_full, _formats(FULL_NAMES), FULL_COLUMNS, full_columns)
VERSIONS = View(ReadingQueries.versions, to_versions, _formats(VERSION_NAMES), VERSION_COLUMNS, version_columns)
