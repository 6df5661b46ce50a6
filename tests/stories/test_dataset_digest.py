"""A digest names the data of a request: equal from every form, at any later time, after a restart, on each replica."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest

from bg_ingest.adapters.sqlite import open_table
from bg_ingest.api.auth import Access
from tests.fakes.clock import SetClock
from tests.fakes.counting_table import CountingTable
from tests.harness.api import ApiHarness, reading
from tests.unit.api.test_datasets import (
    ARROW,
    BEN,
    NDJSON,
    RECEIVER,
    add_varied_readings,
    digest_of,
    manifest_of,
    post,
    read_lines,
    to_columns,
)


@pytest.fixture
def anyio_backend() -> str:
    """Real time: a loop in virtual time does not wait for the thread that writes the file."""
    return "asyncio"


@asynccontextmanager
async def open_replicas(path: Path, clock: SetClock) -> AsyncIterator[tuple[ApiHarness, ApiHarness]]:
    """Open two replicas over the store in a file."""
    async with open_table(path, clock) as table, AsyncExitStack() as stack:
        replicas = ApiHarness(CountingTable(table), clock, {}), ApiHarness(CountingTable(table), clock, {})
        for replica in replicas:
            await stack.enter_async_context(replica.open(Access.OPEN))
        yield replicas


async def digests_of(api: ApiHarness, request: dict[str, Any]) -> set[str]:
    """Return the digests of the manifest, and those by numpy from Parquet, Arrow and lines."""
    manifest = await manifest_of(api, **request)
    rows, end = read_lines((await post(api, NDJSON, **request)).text)
    by_lines: dict[str, Any] = {name: [row[name] for row in rows] for name in ("glucose_mg_dl", "change")}
    for column, name in (("measured_at", "timestamp"), ("recorded_at", "recorded_at")):
        by_lines[column] = [int(datetime.fromisoformat(row[name]).timestamp()) for row in rows]
    by_lines["flag"] = [("ok", "low", "high").index(row["flag"]) for row in rows]
    parquet = pa.parquet.read_table(BytesIO((await post(api, **request)).content))
    arrow = pa.ipc.open_stream((await post(api, ARROW, **request)).content).read_all()
    users = [(user["user_id"], user["rows"]) for user in manifest["users"]]
    tables = (to_columns(parquet), to_columns(arrow), {name: np.array(values) for name, values in by_lines.items()})
    all_versions = request.get("versions") == "all"
    computed = {digest_of(table, users, all_versions=all_versions) for table in tables}
    return {manifest["digest"], end["digest"]} | computed


@pytest.mark.slow
async def test_a_digest_stays_while_the_store_grows_and_ends_with_an_erasure(tmp_path: Path) -> None:
    clock, path = SetClock(), tmp_path / "store.sqlite"
    requests: list[dict[str, Any]] = [{}, {"devices": "all"}, {"versions": "all"}]
    async with open_replicas(path, clock) as (one, two):
        await add_varied_readings(one)
        as_of = {"as_of": (await manifest_of(one))["as_of"]}
        requests = [request | as_of for request in requests]
        before = [await digests_of(one, request) for request in requests]
        assert [len(digests) for digests in before] == [1, 1, 1]
        assert len(set[str]().union(*before)) == 3
        await one.add_readings(*(reading(-number, 90) for number in range(900, 1_200)))  # a backfill
        await two.add_readings(reading(-5, 250), reading(-10, 251))  # revisions
        await two.add_readings(msgspec.structs.replace(reading(-2_000, 77), device=RECEIVER), user=BEN)
        clock.advance(timedelta(hours=1))
        for replica in (one, two):
            assert [await digests_of(replica, request) for request in requests] == before
    async with open_replicas(path, clock) as (restarted, _):
        assert [await digests_of(restarted, request) for request in requests] == before
        assert await digests_of(restarted, {}) != before[0]
        await restarted.services.eraser.erase(BEN)
        rest: list[str] = [
            (await manifest_of(restarted, **request, users=["ada", "eva"]))["digest"] for request in requests
        ]
        assert not set(rest) & set[str]().union(*before)
