"""Encoding of columns as Parquet or Arrow."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from enum import StrEnum
from typing import Protocol

from bg_ingest.domain.columns import Column, ColumnValues


class ColumnarForm(StrEnum):
    """File format of columns."""

    PARQUET = "parquet"
    ARROW = "arrow"
    """Arrow IPC stream."""


class ColumnarEncoder(Protocol):
    """Encoder that holds one row group in memory at a time."""

    def encode(
        self,
        form: ColumnarForm,
        columns: Sequence[Column],
        batches: AsyncGenerator[ColumnValues],
        metadata: Mapping[str, str],
    ) -> AsyncGenerator[bytes]:
        """Yield the file in chunks. ``metadata`` is in Parquet's footer, or in Arrow's schema.

        A file that is not yielded to its end cannot be opened as Parquet. The generator must be closed; it closes
        ``batches``.
        """
