"""CPU of a GetItem and of a Query of 100 segments over both transports of DynamoDB; exit code 1 below the ratio.

    python -m tests.long.benchmarks.transports [--runs 9] [--json FILE]

The server is a ministack of our own, in another process: CPU is that of this process alone, and network latency does
not enter. Runs of the transports alternate, so that a slower minute of the machine affects both.
"""

import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median

import anyio
import msgspec
import rich_click as click

from bg_ingest.adapters.dynamodb import aioboto3_transport, transport
from bg_ingest.adapters.dynamodb.table import DynamoTable
from bg_ingest.ports.table import Item, Put
from tests.integration.processes import start_ministack, start_server
from tests.integration.servers import DynamoServer, credentials, make_table
from tests.long.benchmarks.results_file import write_results
from tests.long.chaos.report import Report

GETS, QUERIES = 1_000, 100
"""Calls in each run."""

SEGMENTS, SEGMENT_BYTES = 100, 500
"""Items of a query, and bytes of readings in each: 72 readings, at 7 bytes each."""

MIN_RATIO = 1.5
"""Least ratio. Below it, the reason for a transport of our own is gone."""

HEAD: tuple[str, str] = ("user#ada", "head")

CONNECTS = {"direct": transport.open_transport, "aioboto3": aioboto3_transport.open_transport}


class CallFigures(msgspec.Struct, frozen=True):
    """Microseconds of CPU per call, medians of the runs."""

    get_item: float
    query: float


@click.command()
@click.option("--runs", default=9, show_default=True)
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="File for all figures.")
def main(runs: int, file: Path | None) -> None:
    """CPU of the calls of DynamoDB over both transports."""
    with tempfile.TemporaryDirectory() as folder:
        stack = start_ministack(Path(folder))
        with start_server(stack):
            figures = anyio.run(_measure, DynamoServer(f"http://127.0.0.1:{stack.port}", credentials()), runs)
    report = Report(f"CPU per call, medians of {runs} runs")
    report.figure("load of the last minute on so many cores", f"{os.getloadavg()[0]:.1f} on {os.cpu_count()}")
    direct, other = figures["direct"], figures["aioboto3"]
    calls = (("GetItem", direct.get_item, other.get_item), (f"Query of {SEGMENTS}", direct.query, other.query))
    for name, ours, theirs in calls:
        report.figure(f"{name}, µs: direct, aioboto3", f"{ours:,.0f}, {theirs:,.0f}")
        times = theirs / ours
        report.check(f"{name}: ratio", f"{times:.2f}", holds=times >= MIN_RATIO, expected=f"at least {MIN_RATIO}")
    if file is not None:
        write_results(file, "transports", runs, figures)
    report.show()


async def _measure(server: DynamoServer, runs: int) -> dict[str, CallFigures]:
    async with AsyncExitStack() as stack:
        name = await _fill(server)
        tables = {}
        for transport_name, connect in CONNECTS.items():
            client = await stack.enter_async_context(msgspec.structs.replace(server, connect=connect).client())
            tables[transport_name] = DynamoTable(client, name)
        gets: dict[str, list[float]] = {each: [] for each in tables}
        queries: dict[str, list[float]] = {each: [] for each in tables}
        for _ in range(runs):
            for transport_name, table in tables.items():
                gets[transport_name].append(await _microseconds(lambda table=table: _get(table), GETS))  # type: ignore[misc]
                queries[transport_name].append(await _microseconds(lambda table=table: _query(table), QUERIES))  # type: ignore[misc]
        return {each: CallFigures(median(gets[each]), median(queries[each])) for each in tables}


async def _fill(server: DynamoServer) -> str:
    async with server.client() as client:
        table = DynamoTable(client, await make_table(client))
        await table.write(Put(HEAD, Item(v=1, change=25_920, recorded=1_772_323_200_123, newest=os.urandom(60))))
        for number in range(SEGMENTS):
            item = Item(v=1, change=number, count=72, readings=os.urandom(SEGMENT_BYTES))
            await table.write(Put((HEAD[0], f"readings#{number:012}"), item))
        return table.name


async def _get(table: DynamoTable) -> None:
    assert await table.get(HEAD) is not None


async def _query(table: DynamoTable) -> None:
    pages = [len(page) async for page in table.query(HEAD[0], "readings#", "readings#~", page=SEGMENTS + 1)]
    assert sum(pages) == SEGMENTS


async def _microseconds(call: Callable[[], Awaitable[None]], times: int) -> float:
    await call()  # connects, and triggers the library's lazy imports
    used = time.process_time()
    for _ in range(times):
        await call()
    return 1_000_000 * (time.process_time() - used) / times


if __name__ == "__main__":
    main()
