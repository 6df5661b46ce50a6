"""Parquet and Arrow of any table: read alike by pyarrow, DuckDB and Polars, refused when cut, in bounded memory."""

import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from io import BytesIO
from pathlib import Path
from typing import Any

import anyio
import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bg_ingest.adapters.parquet import CHUNK_BYTES, ROW_GROUP_ROWS, Arro3Encoder
from bg_ingest.domain.columns import Column, ColumnType, ColumnValues
from bg_ingest.ports import ColumnarForm
from tests.conftest import examples


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Real time: a loop in virtual time does not wait for threads."""
    return request.param


CELLS: dict[ColumnType, st.SearchStrategy[Any]] = {
    ColumnType.STRING: st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
    ColumnType.INT32: st.integers(-(2**31), 2**31 - 1),
    ColumnType.INT64: st.integers(-(2**63), 2**63 - 1),
    ColumnType.DOUBLE: st.floats(allow_nan=False, allow_infinity=False),
    ColumnType.TIME: st.integers(0, 32_503_680_000),
}
COLUMNS = [Column(f"{kind}_{nullable}", kind, nullable) for kind in ColumnType for nullable in (False, True)]
ROW = st.tuples(*(st.none() | CELLS[column.type] if column.nullable else CELLS[column.type] for column in COLUMNS))
TYPES = {
    ColumnType.STRING: pa.string(),
    ColumnType.INT32: pa.int32(),
    ColumnType.INT64: pa.int64(),
    ColumnType.DOUBLE: pa.float64(),
    ColumnType.TIME: pa.timestamp("ms", "UTC"),
}


def to_columns(rows: Sequence[Sequence[Any]]) -> ColumnValues:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in COLUMNS]


async def iter_batches(*batches: ColumnValues) -> AsyncGenerator[ColumnValues]:
    for batch in batches:
        yield batch


async def encode(form: ColumnarForm, *batches: ColumnValues, columns: Sequence[Column] = COLUMNS) -> bytes:
    content = bytearray()
    async with aclosing(Arro3Encoder().encode(form, columns, iter_batches(*batches), {"bg_ingest": "{}"})) as chunks:
        async for chunk in chunks:
            assert 0 < len(chunk) <= CHUNK_BYTES
            content += chunk
    return bytes(content)


def encode_now(form: ColumnarForm, *batches: ColumnValues, columns: Sequence[Column] = COLUMNS) -> bytes:
    async def run() -> bytes:
        return await encode(form, *batches, columns=columns)

    return anyio.run(run)


def expected_table(values: ColumnValues) -> pa.Table:
    """Return the table as pyarrow itself builds it."""
    fields = [pa.field(column.name, TYPES[column.type], column.nullable) for column in COLUMNS]
    cells = [
        [None if cell is None else cell * 1000 for cell in column_cells]
        if column.type is ColumnType.TIME
        else column_cells
        for column, column_cells in zip(COLUMNS, values, strict=True)
    ]
    return pa.Table.from_arrays(
        [pa.array(c, f.type) for c, f in zip(cells, fields, strict=True)], schema=pa.schema(fields)
    )


def by_duckdb(path: Path) -> pa.Table:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.sql("FROM read_parquet(?)", params=[str(path)]).to_arrow_table()


def assert_same_cells(table: pa.Table, expected: pa.Table) -> None:
    assert table.column_names == expected.column_names
    for name in expected.column_names:
        assert table[name].cast(expected[name].type).to_pylist() == expected[name].to_pylist()


def assert_read_alike(rows: Sequence[Sequence[Any]], folder: Path) -> None:
    values = to_columns(rows)
    expected = expected_table(values)
    content = encode_now(ColumnarForm.PARQUET, values)
    table = pa.parquet.read_table(BytesIO(content))
    assert table.schema.remove_metadata() == expected.schema
    assert table.replace_schema_metadata().equals(expected)
    assert pa.parquet.read_metadata(BytesIO(content)).metadata[b"bg_ingest"] == b"{}"
    path = folder / "table.parquet"
    path.write_bytes(content)
    assert_same_cells(by_duckdb(path), expected)
    assert_same_cells(pl.read_parquet(path).to_arrow(), expected)
    stream = encode_now(ColumnarForm.ARROW, values)
    arrow = pa.ipc.open_stream(stream).read_all()
    assert arrow.schema.metadata == {b"bg_ingest": b"{}"}
    assert arrow.replace_schema_metadata().equals(expected)
    assert_same_cells(pl.read_ipc_stream(stream).to_arrow(), expected)


@pytest.mark.slow
@settings(max_examples=examples(40), suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=st.lists(ROW, max_size=30))
def test_every_reader_reads_the_same_cells_types_and_nulls(rows: list[tuple[Any, ...]], tmp_path: Path) -> None:
    assert_read_alike(rows, tmp_path)


def row_of(number: int) -> list[Any]:
    cells = [f"text {number % 7}", number, number * 2**20, number / 7, 1_700_000_000 + 60 * number]
    return [cell for value in cells for cell in (value, None if number % 3 else value)]


@pytest.mark.slow
def test_a_long_table_has_row_groups_of_bounded_size_with_statistics() -> None:
    values = to_columns([row_of(number) for number in range(100_000)])
    batches = [[column[start : start + 999] for column in values] for start in range(0, 100_000, 999)]
    content = encode_now(ColumnarForm.PARQUET, *batches)
    assert pa.parquet.read_table(BytesIO(content)).replace_schema_metadata().equals(expected_table(values))
    metadata = pa.parquet.read_metadata(BytesIO(content))
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    assert [group.num_rows for group in groups] == [ROW_GROUP_ROWS] * 3 + [100_000 - 3 * ROW_GROUP_ROWS]
    statistics = groups[1].column(8).statistics
    assert statistics.min.timestamp() == 1_700_000_000 + 60 * ROW_GROUP_ROWS
    assert statistics.null_count == 0
    stream = pa.ipc.open_stream(encode_now(ColumnarForm.ARROW, *batches))
    assert [batch.num_rows for batch in stream] == [group.num_rows for group in groups]


def opens(read: Any, content: Any) -> bool:
    try:
        read(content)
    except Exception:  # noqa: BLE001 - each reader has errors of its own
        return False
    return True


@pytest.mark.slow
def test_a_parquet_file_cut_at_any_byte_is_refused_by_every_reader(tmp_path: Path) -> None:
    columns = [Column("user_id", ColumnType.STRING), Column("glucose_mg_dl", ColumnType.INT32)]
    content = encode_now(ColumnarForm.PARQUET, [["ada"] * 50, list(range(50))], columns=columns)
    assert pa.parquet.read_table(BytesIO(content)).num_rows == 50
    path = tmp_path / "cut.parquet"
    for length in range(len(content)):
        assert not opens(pa.parquet.read_table, BytesIO(content[:length])), length
    for length in [*range(0, len(content), 31), *range(len(content) - 12, len(content))]:  # these readers are slow
        path.write_bytes(content[:length])
        assert not opens(by_duckdb, path), length
        assert not opens(pl.read_parquet, path), length


def writer_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "columnar-file"]


def assert_threads_end() -> None:
    for thread in writer_threads():
        thread.join(5)
    assert not writer_threads()


@pytest.mark.parametrize("form", ColumnarForm)
async def test_an_answer_that_is_given_up_ends_its_thread_without_a_panic(
    form: ColumnarForm, capfd: pytest.CaptureFixture[str]
) -> None:
    group = to_columns([row_of(number) for number in range(ROW_GROUP_ROWS)])
    async with aclosing(Arro3Encoder().encode(form, COLUMNS, iter_batches(*[group] * 3), {})) as chunks:
        await anext(chunks)
        assert len(writer_threads()) == 1
    assert_threads_end()
    assert "panic" not in capfd.readouterr().err


@pytest.mark.parametrize("form", ColumnarForm)
async def test_a_failure_of_the_rows_is_raised_and_ends_the_thread(form: ColumnarForm) -> None:
    async def failing() -> AsyncGenerator[ColumnValues]:
        yield to_columns([row_of(number) for number in range(ROW_GROUP_ROWS + 1)])
        raise RuntimeError("the store fails")

    content = bytearray()

    async def read() -> None:
        async with aclosing(Arro3Encoder().encode(form, COLUMNS, failing(), {})) as chunks:
            async for chunk in chunks:
                content.extend(chunk)

    with pytest.raises(RuntimeError, match="the store fails"):
        await read()
    assert_threads_end()
    assert content
    assert not opens(pa.parquet.read_table, BytesIO(content))


async def test_a_value_that_does_not_fit_its_column_is_raised() -> None:
    with pytest.raises((TypeError, OverflowError, ValueError)):
        await encode(ColumnarForm.PARQUET, [[2**31]], columns=[Column("number", ColumnType.INT32)])
    assert_threads_end()


@pytest.mark.parametrize("form", ColumnarForm)
async def test_a_failure_before_the_first_row_is_raised_and_ends_the_thread(form: ColumnarForm) -> None:
    with pytest.raises(UnicodeEncodeError):
        await encode(form, [["ada"]], columns=[Column("\ud800", ColumnType.STRING)])
    assert_threads_end()


@pytest.mark.process
def test_arro3_is_not_imported_before_the_first_file() -> None:
    script = "import sys, app, bg_ingest.wiring; sys.exit(any(name.startswith('arro3') for name in sys.modules))"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[3])
