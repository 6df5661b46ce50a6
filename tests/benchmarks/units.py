"""What each operation costs in DynamoDB's read and write units; exit code 1 beyond the limits.

    python -m tests.benchmarks.units [--endpoint URL] [--json FILE]

Computed by the rules in ``capacity.py`` from what the table below the store is asked, and compared with what a server
says that the same calls used: the one at ``--endpoint``, else a ministack of our own. The ministack among the test
tools counts each write as one whatever its size, which is told; from 1.5 on it knows sizes, but then it needs an
environment of its own: ``BIND_HOST=127.0.0.1 GATEWAY_PORT=5002 ministack``.
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
from bg_ingest.adapters.table.protocol import Put
from bg_ingest.adapters.table.store import agree
from bg_ingest.simulator import SimulatorOptions
from bg_ingest.telemetry import configure_logging
from tests.benchmarks.capacity import Asking, Units
from tests.benchmarks.kept import keep
from tests.benchmarks.operations import Row, operations
from tests.benchmarks.wearer import tireless
from tests.benchmarks.weeks import Week, polled, week
from tests.chaos.report import Report, console
from tests.conftest import VirtualTimeLoop
from tests.integration.processes import ministack, started
from tests.integration.servers import DynamoServer, credentials, make_table

MOST_WRITES, MOST_READS = 9_000, 48
"""Of a user's week, and of a range of 90 days."""

DAYS, OF_A_WEEK = 90, 2_016

Found = TypeVar("Found")


@click.command()
@click.option("--endpoint", help="A server that runs; tables of ours are made there.")
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write all figures there.")
def main(endpoint: str | None, file: Path | None) -> None:
    """Units per operation, per week, and of a long range."""
    configure_logging("WARNING", "console")
    report = Report("Limits")
    with tireless() as wearer:
        computed = _virtually(operations, wearer)
        with _server(endpoint) as server:
            told, knows_sizes = anyio.run(_told, wearer, server)
        _show_operations(computed, told)
        _compare(report, computed, told, knows_sizes=knows_sizes)
        console.print("a week with all actors ...")
        weekly = _virtually(week, wearer)
        _judge_week(report, weekly)
        console.print(f"{DAYS} days of polls ...")
        long = _virtually(polled, wearer, DAYS)
    of_range = f"read units of a range of {DAYS} days, {long.readings:,} readings"
    backfilled = computed[-1].used.reads
    for how, reads in (("read in backfill", backfilled), ("polled three at a time", long.reads_of_range)):
        report.check(f"{of_range}, {how}", reads, holds=reads <= MOST_READS, wanted=f"at most {MOST_READS}")
    report.figure(f"write units of {DAYS} days of polls, telling and refreshes", int(long.writes))
    if file is not None:
        pairs = zip(computed, told, strict=True)
        each = [{"operation": row.name, "used": row.used, "told": other.told} for row, other in pairs]
        keep(file, "units", 1, {"operations": each, "week": weekly, "polled": {"days": DAYS, "used": long}})
    report.show()


def _virtually(run: Callable[..., Coroutine[Any, Any, Found]], *given: object) -> Found:
    return anyio.run(run, *given, backend_options={"loop_factory": VirtualTimeLoop})


@contextmanager
def _server(endpoint: str | None) -> Iterator[DynamoServer]:
    if endpoint is not None:
        yield DynamoServer(endpoint, credentials())
        return
    with tempfile.TemporaryDirectory() as place:
        server = ministack(Path(place))
        with started(server):
            yield DynamoServer(f"http://127.0.0.1:{server.port}", credentials())


async def _told(wearer: SimulatorOptions, server: DynamoServer) -> tuple[list[Row], bool]:
    """Do all of it on a server; return what it says, and whether it looks at how long items are."""
    async with server.client() as client:
        asking = Asking(client)
        table = DynamoTable(asking, await make_table(client))
        await table.write(Put(("long", "item"), {"v": 1, "long": bytes(2500)}))
        knows_sizes = asking.told == 3
        await agree(table)
        return await operations(wearer, table, asking), knows_sizes


def _show_operations(computed: list[Row], told: list[Row]) -> None:
    shown = Table("operation", "read units", "write units", "the server says", title="Operations")
    for row, other in zip(computed, told, strict=True):
        figures = (row.used.reads, row.used.writes, other.told)
        shown.add_row(row.name, *(f"{figure:,.1f}".removesuffix(".0") for figure in figures))
    console.print(shown)


def _compare(report: Report, computed: list[Row], told: list[Row], *, knows_sizes: bool) -> None:
    for row, other in zip(computed, told, strict=True):
        # who owns a shard is remembered for seconds: of reads the server's may be one more
        if row.used.writes != other.used.writes or not 0 <= other.used.reads - row.used.reads <= 1:
            report.wrong(f"{row.name}: {row.used} in memory, {other.used} on the server")
    differing = [row.name for row in told if row.used.writes != row.told]
    if knows_sizes:
        differ = ", ".join(differing) or "none"
        report.check(
            "operations whose write units the server sees differently", differ, holds=not differing, wanted="none"
        )
    else:
        report.figure("the server counts each write as one of 1 KB; it differs in", ", ".join(differing) or "none")


def _judge_week(report: Report, found: Week) -> None:
    shown = Table("item", "read units", "write units", title=f"A week of one user, {found.readings:,} readings")
    for kind, used in sorted(found.by_kind.items()):
        if used != Units():
            shown.add_row(kind, f"{used.reads:,.0f}", f"{used.writes:,.0f}")
    shown.add_row("all, without sharing", f"{found.used.reads:,.0f}", f"{found.used.writes:,.0f}")
    shown.add_row("a process without users, sharing", f"{found.idle.reads:,.0f}", f"{found.idle.writes:,.0f}")
    console.print(shown)
    report.check("readings of that week", found.readings, holds=found.readings == OF_A_WEEK, wanted=f"{OF_A_WEEK:,}")
    writes = int(found.used.writes)
    report.check("its write units", writes, holds=writes <= MOST_WRITES, wanted=f"at most {MOST_WRITES:,}")


if __name__ == "__main__":
    main()
