"""Cost of each operation in DynamoDB's read and write units; exit code 1 beyond the limits.

    python -m tests.long.benchmarks.units [--endpoint URL] [--json FILE]

The units are computed by the rules in ``capacity.py`` from the calls to the table below the store. They are compared
with the units a server reports for the same calls: the one at ``--endpoint``, else a ministack of our own. The
ministack among the test tools counts each write as one of any size, which is printed. From 1.5 on it respects sizes,
but then it needs an environment of its own: ``BIND_HOST=127.0.0.1 GATEWAY_PORT=5002 ministack``.
"""

import tempfile
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import anyio
import rich_click as click
from rich.table import Table

from bg_ingest.adapters.dynamodb.table import DynamoTable
from bg_ingest.observability.logs import configure_logging
from bg_ingest.ports.table import Put
from bg_ingest.simulator import SimulatorOptions
from bg_ingest.store import check_layout
from tests.conftest import VirtualTimeLoop
from tests.integration.processes import start_ministack, start_server
from tests.integration.servers import DynamoServer, credentials, make_table
from tests.long.benchmarks.capacity import MeteredTransport, Units
from tests.long.benchmarks.operations import CostRow, measure_operations
from tests.long.benchmarks.results_file import write_results
from tests.long.benchmarks.steady_sensor import steady_sensor
from tests.long.benchmarks.weeks import WeekFigures, measure_polls, measure_week
from tests.long.chaos.report import Report, console

MAX_WRITE_UNITS, MAX_READ_UNITS = 5_500, 31
"""Limits for a user's week, and for a range of 90 days."""

MAX_IDLE_READ_UNITS = 2_000_000
"""Limit for a week of a process without users."""

DAYS, READINGS_PER_WEEK = 90, 2_016

Found = TypeVar("Found")


@click.command()
@click.option("--endpoint", help="A running server; the benchmark creates its tables there.")
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="File for all figures.")
def main(endpoint: str | None, file: Path | None) -> None:
    """Units per operation, per week, and of a long range."""
    configure_logging("WARNING", "console")
    report = Report("Limits")
    with steady_sensor() as wearer:
        computed = _virtually(measure_operations, wearer)
        with _server(endpoint) as server:
            reported, knows_sizes = anyio.run(_measure_on_server, wearer, server)
        _show_operations(computed, reported)
        _compare(report, computed, reported, knows_sizes=knows_sizes)
        console.print("a week with all actors ...")
        weekly = _virtually(measure_week, wearer)
        _check_week(report, weekly)
        console.print(f"{DAYS} days of polls ...")
        long = _virtually(measure_polls, wearer, DAYS)
    of_range = f"read units of a range of {DAYS} days, {long.readings:,} readings"
    backfilled = computed[-1].used.reads
    for origin, reads in (("read in backfill", backfilled), ("polled three at a time", long.reads_of_range)):
        report.check(
            f"{of_range}, {origin}", reads, holds=reads <= MAX_READ_UNITS, expected=f"at most {MAX_READ_UNITS}"
        )
    report.figure(f"write units of {DAYS} days of polls, publishing and refreshes", int(long.writes))
    if file is not None:
        pairs = zip(computed, reported, strict=True)
        each = [{"operation": row.name, "used": row.used, "told": other.reported} for row, other in pairs]
        write_results(file, "units", 1, {"operations": each, "week": weekly, "polled": {"days": DAYS, "used": long}})
    report.show()


def _virtually(run: Callable[..., Coroutine[Any, Any, Found]], *given: object) -> Found:
    return anyio.run(run, *given, backend_options={"loop_factory": VirtualTimeLoop})


@contextmanager
def _server(endpoint: str | None) -> Iterator[DynamoServer]:
    if endpoint is not None:
        yield DynamoServer(endpoint, credentials())
        return
    with tempfile.TemporaryDirectory() as folder:
        server = start_ministack(Path(folder))
        with start_server(server):
            yield DynamoServer(f"http://127.0.0.1:{server.port}", credentials())


async def _measure_on_server(wearer: SimulatorOptions, server: DynamoServer) -> tuple[list[CostRow], bool]:
    """Run all operations on a server; return its figures, and True if it respects the sizes of items."""
    async with server.client() as client:
        asking = MeteredTransport(client)
        table = DynamoTable(asking, await make_table(client))
        await table.write(Put(("long", "item"), {"v": 1, "long": bytes(2500)}))
        knows_sizes = asking.reported_units == 3
        await check_layout(table)
        return await measure_operations(wearer, table, asking), knows_sizes


def _show_operations(computed: list[CostRow], reported: list[CostRow]) -> None:
    shown = Table("operation", "read units", "write units", "reported by the server", title="Operations")
    for row, other in zip(computed, reported, strict=True):
        figures = (row.used.reads, row.used.writes, other.reported)
        shown.add_row(row.name, *(f"{figure:,.1f}".removesuffix(".0") for figure in figures))
    console.print(shown)


def _compare(report: Report, computed: list[CostRow], reported: list[CostRow], *, knows_sizes: bool) -> None:
    for row, other in zip(computed, reported, strict=True):
        # the owner of a shard is cached for seconds, so the server may count one more read
        if row.used.writes != other.used.writes or not 0 <= other.used.reads - row.used.reads <= 1:
            report.wrong(f"{row.name}: {row.used} in memory, {other.used} on the server")
    differing = [row.name for row in reported if row.used.writes != row.reported]
    if knows_sizes:
        differ = ", ".join(differing) or "none"
        report.check("operations with other write units on the server", differ, holds=not differing, expected="none")
    else:
        report.figure("the server counts each write as one of 1 KB; it differs in", ", ".join(differing) or "none")


def _check_week(report: Report, found: WeekFigures) -> None:
    shown = Table("item", "read units", "write units", title=f"A week of one user, {found.readings:,} readings")
    for kind, used in sorted(found.by_kind.items()):
        if used != Units():
            shown.add_row(kind, f"{used.reads:,.0f}", f"{used.writes:,.0f}")
    shown.add_row("all, without sharing", f"{found.used.reads:,.0f}", f"{found.used.writes:,.0f}")
    shown.add_row("a process without users, sharing", f"{found.idle.reads:,.0f}", f"{found.idle.writes:,.0f}")
    console.print(shown)
    report.check(
        "readings of that week",
        found.readings,
        holds=found.readings == READINGS_PER_WEEK,
        expected=f"{READINGS_PER_WEEK:,}",
    )
    writes = int(found.used.writes)
    report.check("its write units", writes, holds=writes <= MAX_WRITE_UNITS, expected=f"at most {MAX_WRITE_UNITS:,}")
    reads = int(found.idle.reads)
    report.check(
        "read units of a process without users",
        reads,
        holds=reads <= MAX_IDLE_READ_UNITS,
        expected=f"at most {MAX_IDLE_READ_UNITS:,}",
    )


if __name__ == "__main__":
    main()
