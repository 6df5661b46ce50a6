"""Parquet and Arrow by arro3, which is imported on first use.

arro3 pulls record batches from an iterator and writes to a file object, both synchronously. Therefore each file has a
thread of its own. The thread runs only while a caller waits for it, so one row group is in memory at a time.
"""

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from itertools import islice
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any

from anyio import to_thread

from bg_ingest.domain.columns import Column, ColumnType, ColumnValues
from bg_ingest.ports.columnar import ColumnarForm

if TYPE_CHECKING:
    from arro3.core import Array, DataType, RecordBatch, Schema

ROW_GROUP_ROWS = 32_768

BATCH_ROWS = 4_096
"""Rows that are converted at once. One conversion holds the interpreter's lock for about half a millisecond per column.
Unconverted rows are Python values, which take ten times the memory of Arrow values."""

CHUNK_BYTES = 65_536
"""Maximum size of a chunk. The time limit for sending a chunk does not grow with its size, so a slow reader needs small
chunks."""

COMPRESSION = "zstd(3)"


class Arro3Encoder:
    """Implements ``ColumnarEncoder``."""

    async def encode(
        self,
        form: ColumnarForm,
        columns: Sequence[Column],
        batches: AsyncGenerator[ColumnValues],
        metadata: Mapping[str, str],
    ) -> AsyncGenerator[bytes]:
        batch: ColumnValues = [[] for _ in columns]
        file = _FileThread(form, columns, metadata)
        try:
            async with aclosing(batches):
                async for values in batches:
                    for column, more in zip(batch, values, strict=True):
                        column.extend(more)
                    while len(batch[0]) >= BATCH_ROWS:
                        rows, batch = _split(batch)
                        for chunk in _chunks(await to_thread.run_sync(file.write_rows, rows)):
                            yield chunk
            if batch[0]:
                for chunk in _chunks(await to_thread.run_sync(file.write_rows, batch)):
                    yield chunk
            for chunk in _chunks(await to_thread.run_sync(file.finish)):
                yield chunk
        finally:
            file.abort()


def _chunks(content: bytes) -> Iterator[bytes]:
    return (content[start : start + CHUNK_BYTES] for start in range(0, len(content), CHUNK_BYTES))


def _split(batch: ColumnValues) -> tuple[ColumnValues, ColumnValues]:
    return [column[:BATCH_ROWS] for column in batch], [column[BATCH_ROWS:] for column in batch]


class _Aborted(Exception):
    pass


class _FileThread:
    """Thread that writes one file. It runs only while a caller waits for it, and otherwise waits for rows.

    arro3 panics if its file object raises. Therefore an abort is raised in the iterator of the rows.
    """

    def __init__(self, form: ColumnarForm, columns: Sequence[Column], metadata: Mapping[str, str]) -> None:
        self._form, self._columns, self._metadata = form, columns, dict(metadata)
        self._batches: SimpleQueue[ColumnValues | _Aborted | None] = SimpleQueue()
        self._replies: SimpleQueue[None] = SimpleQueue()
        self._written: list[bytes] = []
        self._error: BaseException | None = None
        self._thread: Thread | None = None

    def write_rows(self, values: ColumnValues) -> bytes:
        """Write rows, and return the bytes that are ready."""
        return self._exchange(values)

    def finish(self) -> bytes:
        """Write the end of the file, and return the last bytes."""
        return self._exchange(None)

    def abort(self) -> None:
        """End the thread before the file is complete. After ``finish`` this has no effect."""
        self._batches.put(_Aborted())

    def _exchange(self, values: ColumnValues | None) -> bytes:
        if self._thread is None:
            self._thread = Thread(target=self._run, name="columnar-file", daemon=True)
            self._thread.start()
            self._replies.get()
        if self._error is None:  # a file that fails before its first batch sends one reply only
            self._batches.put(values)
            self._replies.get()
        if self._error is not None:
            raise self._error
        content = b"".join(self._written)
        self._written.clear()
        return content

    def _run(self) -> None:
        try:
            self._write_file()
        except BaseException as error:  # noqa: BLE001 - a panic of arro3 is no Exception; the caller raises the error
            self._error = self._error or error
        finally:
            self._replies.put(None)

    def _write_file(self) -> None:
        from arro3.core import RecordBatchReader
        from arro3.io import write_ipc_stream, write_parquet

        if self._form is ColumnarForm.ARROW:
            schema = _build_schema(self._columns, self._metadata)
            groups = _iter_groups(self._iter_batches(schema))
            write_ipc_stream(RecordBatchReader.from_batches(schema, groups), self)  # type: ignore[arg-type]
            return
        schema = _build_schema(self._columns, {})
        write_parquet(
            RecordBatchReader.from_batches(schema, self._iter_batches(schema)),
            self,  # type: ignore[arg-type]  # arro3 needs the methods below only
            compression=COMPRESSION,
            max_row_group_size=ROW_GROUP_ROWS,
            key_value_metadata=self._metadata,
        )

    def _iter_batches(self, schema: "Schema") -> Iterator["RecordBatch"]:
        while True:
            self._replies.put(None)
            values = self._batches.get()
            if values is None:
                return
            if isinstance(values, _Aborted):
                raise values
            try:
                yield _build_batch(schema, self._columns, values)
            except Exception as error:
                self._error = error  # arro3 raises another error with only the text of this one
                raise

    def write(self, content: bytes) -> int:
        """Take bytes of the file; called by arro3."""
        self._written.append(bytes(content))
        return len(content)

    def flush(self) -> None: ...

    def seek(self, *_: Any) -> int:  # noqa: ANN401 - arro3 requires the method and does not call it
        raise NotImplementedError


def _iter_groups(batches: Iterator["RecordBatch"]) -> Iterator["RecordBatch"]:
    """Join batches into larger ones of `ROW_GROUP_ROWS`."""
    from arro3.core import Table

    while group := list(islice(batches, ROW_GROUP_ROWS // BATCH_ROWS)):
        yield from Table.from_batches(group).combine_chunks().to_batches()


def _build_schema(columns: Sequence[Column], metadata: dict[str, str]) -> "Schema":
    from arro3.core import Field, Schema

    fields = [Field(column.name, _data_type(column.type), nullable=column.nullable) for column in columns]
    return Schema(fields, metadata=metadata) if metadata else Schema(fields)


def _build_batch(schema: "Schema", columns: Sequence[Column], values: ColumnValues) -> "RecordBatch":
    from arro3.core import RecordBatch

    arrays = [_build_array(column.type, cells) for column, cells in zip(columns, values, strict=True)]
    return RecordBatch.from_arrays(arrays, schema=schema)


def _build_array(column_type: ColumnType, cells: list[Any]) -> "Array":
    from arro3.core import Array, DataType

    if column_type is not ColumnType.TIME:
        return Array(cells, _data_type(column_type))
    milliseconds = [None if second is None else second * 1000 for second in cells]
    return Array(milliseconds, DataType.int64()).cast(_data_type(column_type))


def _data_type(column_type: ColumnType) -> "DataType":
    from arro3.core import DataType

    match column_type:
        case ColumnType.STRING:
            return DataType.string()
        case ColumnType.INT32:
            return DataType.int32()
        case ColumnType.INT64:
            return DataType.int64()
        case ColumnType.DOUBLE:
            return DataType.float64()
        case ColumnType.TIME:
            return DataType.timestamp("ms", tz="UTC")
