"""POST /api/dataset: many users in one file as of a final second, with a manifest and a digest of the data."""

import csv
import hashlib
import json
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from io import BytesIO, StringIO
from itertools import product
from typing import Any, cast

import anyio
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest

from bg_ingest.api.auth import Access
from bg_ingest.domain.access import Scope
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.readings import Flag
from bg_ingest.services.queries.datasets import DatasetQueries
from bg_ingest.services.queries.readings import ReadingQueries
from bg_ingest.store.segments import ReadingStore
from tests.harness.api import DEVICE, ApiHarness, open_api, reading
from tests.unit.api.test_streaming import BreakingReadings, FakeConnection

PARQUET, ARROW = "application/vnd.apache.parquet", "application/vnd.apache.arrow.stream"
NDJSON, CSV, JSON = "application/x-ndjson", "text/csv", "application/json"
BEN, EVA = UserId("ben"), UserId("eva")
BODY: dict[str, Any] = {"users": ["ben", "eva", "ada"], "from": "2026-02-20"}
RECEIVER = msgspec.structs.replace(DEVICE, display="receiver")


@pytest.fixture
def anyio_backend() -> str:
    """Real time: a loop in virtual time does not wait for the thread that writes the file."""
    return "asyncio"


async def post(api: ApiHarness, accept: str = "*/*", **changes: Any) -> Any:
    return await api.http.post("/api/dataset", json=BODY | changes, headers={"Accept": accept})


async def manifest_of(api: ApiHarness, **changes: Any) -> dict[str, Any]:
    answer = await post(api, JSON, **changes)
    assert answer.status_code == 200, answer.text
    manifest: dict[str, Any] = answer.json()
    return manifest


async def add_varied_readings(api: ApiHarness) -> None:
    """Add readings of Ada and Ben with revisions and two devices; Eva has none. The last second becomes final."""
    await api.add_connection(user=EVA)
    await api.add_readings(*(reading(-number, 60 + number % 200) for number in range(1, 900)))
    await api.add_readings(*(msgspec.structs.replace(reading(-n, 77), device=RECEIVER) for n in range(1, 20)))
    await api.add_readings(
        *(reading(-number, 401, trend="flat") for number in range(10, 12)), reading(-30, 39), user=BEN
    )
    low = msgspec.structs.replace(reading(-31), glucose_mg_dl=39, flag=Flag.LOW)
    api.clock.advance(timedelta(seconds=90, milliseconds=7))
    await api.add_readings(low, reading(-10, 100), user=BEN)
    api.clock.advance(timedelta(minutes=10))


def digest_of(columns: dict[str, Any], users: list[tuple[str, int]], *, all_versions: bool) -> str:
    """Recompute a digest with numpy, as docs/consumers.md does."""
    names = [("measured_at", "<i8"), ("glucose_mg_dl", "<i2"), ("flag", "u1")]
    if all_versions:
        names += [("recorded_at", "<i8"), ("change", "<i8")]
    lines = "".join(f"{user}\t{rows}\n" for user, rows in users).encode()
    parts = [lines, *(np.asarray(columns[name]).astype(kind).tobytes() for name, kind in names)]
    return "sha256:" + hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def to_columns(table: pa.Table) -> dict[str, Any]:
    columns: dict[str, Any] = {name: table[name].to_numpy() for name in ("glucose_mg_dl", "change")}
    for name in ("measured_at", "recorded_at"):
        columns[name] = table[name].to_numpy().astype("datetime64[s]").astype("int64")
    columns["flag"] = [["ok", "low", "high"].index(flag) for flag in table["flag"].to_pylist()]
    return columns


def read_lines(text: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    *rows, end = map(json.loads, text.splitlines())
    assert end.pop("kind") == "end"
    return rows, end


def as_in_json(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if isinstance(value, datetime) else value
        for name, value in row.items()
    }


async def test_the_manifest_describes_the_request_and_the_rows(api: ApiHarness) -> None:
    await add_varied_readings(api)
    manifest = await manifest_of(api)
    as_of = (api.clock.now() - timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    digest = manifest.pop("digest")
    assert manifest == {
        "schema": 1,
        "made_by": "bg-ingest 0.1.0",
        "as_of": as_of,
        "from": "2026-02-20T00:00:00Z",
        "to": as_of,
        "versions": "last",
        "devices": "one",
        "rows": 903,
        "users": [
            {"user_id": "ada", "rows": 899, "change": 4},
            {"user_id": "ben", "rows": 4, "change": 3},
            {"user_id": "eva", "rows": 0, "change": None},
        ],
    }
    assert digest.startswith("sha256:")


@pytest.mark.slow
@pytest.mark.parametrize("others", [{}, {"devices": "all"}, {"versions": "all"}], ids=str)
async def test_all_forms_hold_the_same_rows_and_the_digest_is_that_of_the_manifest(
    api: ApiHarness, others: dict[str, str]
) -> None:
    await add_varied_readings(api)
    manifest = await manifest_of(api, **others)
    rows, end = read_lines((await post(api, NDJSON, **others)).text)
    assert end == manifest
    assert [row["user_id"] for row in rows] == sorted(row["user_id"] for row in rows)
    by_csv = list(csv.DictReader(StringIO((await post(api, CSV, **others)).text, newline="")))
    assert [*by_csv[0]] == [*rows[0]]
    assert [(row["user_id"], row["timestamp"], row["change"]) for row in by_csv] == [
        (row["user_id"], row["timestamp"], str(row["change"])) for row in rows
    ]
    file = BytesIO((await post(api, **others)).content)
    parquet, footer = pa.parquet.read_table(file), pa.parquet.read_metadata(file)
    arrow = pa.ipc.open_stream((await post(api, ARROW, **others)).content).read_all()
    users = [(user["user_id"], user["rows"]) for user in manifest["users"]]
    known = {name: value for name, value in manifest.items() if name not in {"rows", "digest"}}
    known["users"] = [{"user_id": user} for user, _ in users]
    for table, metadata in ((parquet, footer.metadata), (arrow, arrow.schema.metadata)):
        expected = [{name: row[name] for name in table.column_names} for row in rows]
        assert [as_in_json(row) for row in table.to_pylist()] == expected
        all_versions = others.get("versions") == "all"
        assert digest_of(to_columns(table), users, all_versions=all_versions) == manifest["digest"]
        assert json.loads(metadata[b"bg_ingest"]) == known


async def test_late_data_revisions_and_a_second_device_change_nothing_and_an_erasure_does(api: ApiHarness) -> None:
    await add_varied_readings(api)
    before = await manifest_of(api)
    request = {"as_of": before["as_of"]}
    content = (await post(api, **request)).content
    await api.add_readings(reading(-1000, 99), reading(-5, 250))
    await api.add_readings(msgspec.structs.replace(reading(-1001, 77), device=RECEIVER), user=BEN)
    api.clock.advance(timedelta(hours=1))
    assert await manifest_of(api, **request) == before
    assert (await post(api, **request)).content == content
    assert (await manifest_of(api))["digest"] != before["digest"]
    await api.services.eraser.erase(BEN)
    without = await manifest_of(api, users=["ada", "eva"], **request)
    assert without["digest"] != before["digest"]


@pytest.mark.slow
async def test_versions_filtered_by_their_validity_are_the_rows_of_a_past_time(api: ApiHarness) -> None:
    await add_varied_readings(api)
    rows, _ = read_lines((await post(api, NDJSON, versions="all")).text)
    for as_of in ("2026-03-02T12:00:00Z", "2026-03-02T12:01:29Z", "2026-03-02T12:01:30Z"):
        past, _ = read_lines((await post(api, NDJSON, as_of=as_of, to="2026-03-03", devices="all")).text)
        valid = [
            {name: value for name, value in row.items() if not name.startswith("superseded")}
            for row in rows
            if row["recorded_at"] <= as_of and (row["superseded_at"] is None or as_of < row["superseded_at"])
        ]
        assert valid == past


async def test_an_unknown_user_is_named_and_nothing_of_others_is_shown(api: ApiHarness) -> None:
    await add_varied_readings(api)
    await api.services.eraser.erase(EVA)
    answer = await post(api, users=["zoe", "ada", "eva"])
    problem = answer.json()
    assert (answer.status_code, problem["type"], problem["users"]) == (404, "unknown-users", ["eva", "zoe"])


@pytest.mark.slow
async def test_one_forbidden_user_among_a_thousand_is_404_without_a_byte_of_others() -> None:
    async with open_api(Access.CLOSED) as api:
        await add_varied_readings(api)
        users = [UserId("".join(letters)) for letters in product("fghijklmno", repeat=3)][:998]
        for user in users[:3]:
            await api.add_connection(user=user)
        made = await api.services.api_keys.create("test", [Scope.READINGS_READ], users=[*users, UserId("ada")])
        await anyio.sleep(2)  # until a new key is known
        headers = {"Authorization": f"Bearer {made.text.reveal()}"}
        body = BODY | {"users": [*users, "ada", "ben"]}
        answer = await api.http.post("/api/dataset", json=body, headers=headers)
        assert answer.status_code == 404
        assert answer.json()["users"] == sorted({*users[3:], "ben"})
        small = BODY | {"users": [*users[:3], "ada"]}
        assert (await api.http.post("/api/dataset", json=small, headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"users": []}, "invalid-body"),
        ({"users": ["ada", "ada"]}, "invalid-body"),
        ({"users": [f"u{number}" for number in range(1001)]}, "invalid-body"),
        ({"users": ["../ada"]}, "invalid-user-id"),
        ({"from": "yesterday"}, "invalid-time"),
        ({"from": ""}, "invalid-time"),
        ({"to": "2026-02-20"}, "invalid-range"),
        ({"as_of": "2026-03-02T12:00:00Z"}, "invalid-as-of"),
        ({"versions": "some"}, "invalid-body"),
        ({"versions": "all", "devices": "one"}, "invalid-versions"),
        ({"versions": "all", "preset": "iglu"}, "invalid-versions"),
        ({"preset": "excel"}, "invalid-body"),
        ({"zone": "Mars/Base"}, "invalid-zone"),
        ({"view": "full"}, "invalid-body"),
    ],
    ids=str,
)
async def test_a_wrong_request_is_refused_with_its_reason(
    api: ApiHarness, changes: dict[str, Any], problem: str
) -> None:
    await api.add_readings(reading(-1))
    answer = await post(api, **{"users": ["ada"]} | changes)
    assert (answer.status_code, answer.json()["type"]) == (400, problem)


async def test_a_third_dataset_at_once_is_refused_and_the_slots_are_free_afterwards(api: ApiHarness) -> None:
    await api.add_readings(reading(-1))
    with ExitStack() as slots:
        for _ in range(2):
            slots.enter_context(api.app.state.dataset_slots.take())
        answer = await post(api, users=["ada"])
        assert (answer.status_code, answer.json()["type"]) == (503, "too-busy")
        assert int(answer.headers["retry-after"]) > 0
    for _ in range(3):
        answer = await post(api, users=["ada"])
        assert answer.status_code == 200
        assert answer.headers["content-disposition"].startswith('attachment; filename="dataset_2026-02-20_2026-03-0')
        assert answer.headers["cache-control"] == "no-store"


async def test_an_unknown_form_is_refused(api: ApiHarness) -> None:
    await api.add_readings(reading(-1))
    assert (await post(api, "text/html", users=["ada"])).status_code == 406
    assert (await post(api, PARQUET, users=["ada"], preset="iglu")).status_code == 406
    api.clock.advance(timedelta(minutes=2))
    answer = await post(api, users=["ada"], preset="iglu")
    assert answer.text == "id,time,gl\r\nada,2026-03-02 11:55:00,110\r\n"


async def test_a_client_of_a_manifest_that_disconnects_ends_the_reads(api: ApiHarness) -> None:
    """The answer starts before the readings are read: only then is a disconnect noticed."""
    await api.add_readings(reading(-5))
    readings = BreakingReadings(after=None)
    reader = ReadingQueries(cast("ReadingStore", readings), api.clock)
    api.replace_services(datasets=DatasetQueries(api.store.readings, reader, "test"))
    connection = FakeConnection(gone_after=2, accept=JSON)
    with anyio.fail_after(10):
        await connection.post(api, "/api/dataset", BODY | {"users": ["ada"]})
    assert len(connection.events) == 2
    assert readings.given == 0
