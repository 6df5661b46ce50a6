"""Ranges as Parquet and Arrow: the rows of NDJSON with the types of the schema, in files named after user and dates."""

import json
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest

from bg_ingest.domain.readings import Device, Flag
from tests.harness.api import DEVICE, ApiHarness, reading
from tests.unit.adapters.test_parquet import by_duckdb
from tests.unit.api.test_streaming import BreakingReadings, FakeConnection, use_readings

PARQUET, ARROW = "application/vnd.apache.parquet", "application/vnd.apache.arrow.stream"
NDJSON = "application/x-ndjson"
SPAN = {"from": "2026-02-20", "to": "2026-03-03"}

BASIC = [
    ("user_id", "string", False),
    ("measured_at", "timestamp[ms, tz=UTC]", False),
    ("glucose_mg_dl", "int32", False),
]
FULL = [
    *BASIC,
    ("flag", "string", False),
    ("trend", "string", True),
    ("trend_rate_mg_dl_min", "double", True),
    ("recorded_at", "timestamp[ms, tz=UTC]", False),
    ("change", "int64", False),
    ("utc_offset_seconds", "int32", True),
    ("provider", "string", False),
    ("device", "string", False),
    ("sensor", "string", True),
]
VERSIONS = [*FULL, ("superseded_at", "timestamp[ms, tz=UTC]", True), ("superseded_by", "int64", True)]


@pytest.fixture
def anyio_backend() -> str:
    """Real time: a loop in virtual time does not wait for the thread that writes the file."""
    return "asyncio"


def read_table(media_type: str, content: bytes) -> pa.Table:
    if media_type == PARQUET:
        return pa.parquet.read_table(BytesIO(content))
    return pa.ipc.open_stream(content).read_all()


def read_rows_by_others(media_type: str, content: bytes, folder: Path) -> list[list[dict[str, Any]]]:
    """Return the rows as Polars and, of Parquet, DuckDB read them."""
    if media_type == ARROW:
        return [pl.read_ipc_stream(content).to_dicts()]
    path = folder / "range.parquet"
    path.write_bytes(content)
    return [pl.read_parquet(content).to_dicts(), by_duckdb(path).to_pylist()]


def as_in_json(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if isinstance(value, datetime) else value
        for name, value in row.items()
    }


async def add_varied_readings(api: ApiHarness) -> None:
    unnamed = Device("acme", "account-1", None, "récepteur", "unknown")
    await api.add_readings(
        *(
            reading(-number, 60 + number % 200, trend="flat", trend_rate_mg_dl_min=-0.1 * (number % 7))
            for number in range(1, 700)
        ),
        *(
            msgspec.structs.replace(reading(-number), device=unnamed, trend=None, utc_offset_seconds=-3600)
            for number in (3, 500)
        ),
        msgspec.structs.replace(reading(-701), glucose_mg_dl=401, flag=Flag.HIGH),
    )
    api.clock.advance(timedelta(minutes=3))
    await api.add_readings(*(reading(-number, 300) for number in range(5, 600, 7)))


@pytest.mark.parametrize("media_type", [PARQUET, ARROW])
@pytest.mark.parametrize(
    ("query", "schema"), [({}, BASIC), ({"view": "full"}, FULL), ({"versions": "all"}, VERSIONS)], ids=str
)
async def test_rows_types_and_nulls_are_those_of_ndjson(
    api: ApiHarness, query: dict[str, str], schema: list[tuple[str, str, bool]], media_type: str, tmp_path: Path
) -> None:
    await add_varied_readings(api)
    answer = await api.http.get("/api/bg/ada", params=SPAN | query, headers={"Accept": media_type})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == media_type
    assert answer.headers["vary"] == "Accept"
    table = read_table(media_type, answer.content)
    assert [(field.name, str(field.type), field.nullable) for field in table.schema] == schema
    lines = await api.http.get("/api/bg/ada", params=SPAN | query, headers={"Accept": NDJSON})
    expected = [json.loads(line) | {"user_id": "ada"} for line in lines.text.splitlines()]
    for row in expected:
        row["measured_at"] = row.pop("timestamp")
        row.pop("glucose_mmol_l", None)
    assert [as_in_json(row) for row in table.to_pylist()] == expected
    for rows in read_rows_by_others(media_type, answer.content, tmp_path):
        assert [as_in_json(row) for row in rows] == expected


@pytest.mark.parametrize("media_type", [PARQUET, ARROW])
async def test_a_user_without_readings_has_an_empty_table(api: ApiHarness, media_type: str) -> None:
    await api.add_connection()
    answer = await api.http.get("/api/bg/ada", params=SPAN | {"view": "full"}, headers={"Accept": media_type})
    table = read_table(media_type, answer.content)
    assert (table.num_rows, table.column_names) == (0, [name for name, _, _ in FULL])


@pytest.mark.parametrize(("media_type", "extension"), [(PARQUET, "parquet"), (ARROW, "arrows")])
async def test_the_file_is_named_after_user_and_dates(api: ApiHarness, media_type: str, extension: str) -> None:
    await api.add_readings(reading(-1))
    answer = await api.http.get("/api/bg/ada", params=SPAN, headers={"Accept": media_type})
    disposition = f'attachment; filename="ada_2026-02-20_2026-03-03.{extension}"'
    assert answer.headers["content-disposition"] == disposition
    again = await api.http.get("/api/bg/ada", headers={"Accept": media_type})
    tag = {"Accept": media_type, "If-None-Match": again.headers["etag"]}
    assert (await api.http.get("/api/bg/ada", headers=tag)).status_code == 304


async def test_a_rate_that_json_cannot_hold_is_null_in_every_form(api: ApiHarness) -> None:
    await api.add_readings(reading(-1, trend_rate_mg_dl_min=float("inf")), reading(-2, trend_rate_mg_dl_min=1))
    query = SPAN | {"view": "full"}
    table = read_table(PARQUET, (await api.http.get("/api/bg/ada", params=query, headers={"Accept": PARQUET})).content)
    assert table["trend_rate_mg_dl_min"].to_pylist() == [1.0, None]
    assert [row["trend_rate_mg_dl_min"] for row in (await api.http.get("/api/bg/ada", params=query)).json()] == [
        1,
        None,
    ]


@pytest.mark.process
def test_ten_years_grow_the_process_by_less_than_24_mb() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.harness.ten_years", "5", PARQUET, ARROW],
        cwd=Path(__file__).parents[3],
        check=True,
        capture_output=True,
        timeout=120,
    )
    figures = json.loads(done.stdout)
    assert figures["asked"][ARROW][1] > 10_000_000
    assert figures["grown"] < 24_000_000


async def test_the_store_failing_on_the_way_ends_the_connection_without_the_end_of_the_file(api: ApiHarness) -> None:
    use_readings(api, broken := BreakingReadings(after=600))
    connection = FakeConnection(accept=ARROW)
    with pytest.raises(Exception, match="after response started"):
        await connection.ask(api)
    assert len(connection.events) > 1
    assert all(event["more_body"] for event in connection.events[1:])
    assert broken.closed


async def test_a_client_that_disconnects_ends_the_writer(api: ApiHarness, capfd: pytest.CaptureFixture[str]) -> None:
    use_readings(api, endless := BreakingReadings(after=None))
    connection = FakeConnection(gone_after=3, accept=ARROW)
    await connection.ask(api)
    assert len(connection.events) == 3
    assert endless.closed
    for thread in [thread for thread in threading.enumerate() if thread.name == "columnar-file"]:
        thread.join(5)
        assert not thread.is_alive()
    assert "panic" not in capfd.readouterr().err


def test_device_names_are_the_same_in_all_forms() -> None:
    assert DEVICE.public_name == "g7/iOS"
