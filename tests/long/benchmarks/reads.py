"""Comparison of reads: the service, the straightforward layout, and the same routes answering from memory.

    python -m tests.long.benchmarks.reads [--runs 3] [--json FILE]

Each is a process of its own that receives this one's requests over HTTP. A DynamoDB-compatible server runs beside them
on the same machine. The wall clock's figures include all these processes. The limits apply to the processor time of
the serving process, its cost. Exit code 1 beyond the limits.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import anyio
import rich_click as click

from bg_ingest.adapters.dynamodb.admin import create_table
from tests.harness.web import web
from tests.integration.processes import free_port, start_ministack, start_server
from tests.integration.servers import REGION, DynamoServer, credentials
from tests.long.benchmarks.comparison import (
    BASELINE,
    CASES,
    COLD,
    DAILY,
    DAILY_ALONE,
    FLOOR,
    LATEST,
    LATEST_OF_MANY,
    QUARTERLY,
    SERVICE,
    Case,
    Measurements,
    Units,
    ratio,
    to_figures,
    to_table,
)
from tests.long.benchmarks.history import PEOPLE, fill_both
from tests.long.benchmarks.load import LoadResult, medians, run_load
from tests.long.benchmarks.micro import MicroFigures, measure_micro
from tests.long.benchmarks.read_units import of_baseline, of_service
from tests.long.benchmarks.results_file import write_results
from tests.long.chaos.processes import HOST, Process, answers, run_folder, service_settings, wait_until
from tests.long.chaos.real_parts import TABLE
from tests.long.chaos.report import Report, console

MIN_RATIOS = (
    (LATEST, SERVICE, 2.5),
    (LATEST_OF_MANY, SERVICE, 6.5),
    (DAILY, SERVICE, 9.0),
    (DAILY, COLD, 7.0),
    (QUARTERLY, SERVICE, 100.0),
    (QUARTERLY, COLD, 38.0),
)
"""Least multiple of the baseline's requests in equal processor time."""

MAX_ALONE_MS = 10.0
"""Largest p99 of the range of a day for one client of an idle service."""

MIN_RANGE_RATIO = 2.5
"""Largest multiple of the processor time of Query and unpacking."""

BASELINE_TABLE = "baseline"


@click.command()
@click.option("--runs", default=3, show_default=True)
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="File for all figures.")
def main(runs: int, file: Path | None) -> None:
    """Compare latest and ranges with the straightforward layout and with memory."""
    with run_folder("reads") as folder, _server(folder) as server, _sides(folder, server) as sides:
        _compare_answers(sides)
        found = _measure(sides, runs)
        micro = anyio.run(measure_micro, server.endpoint, TABLE, runs)
    units = _units()
    console.print(to_table(found, units))
    report = Report(f"Reading, medians of {runs} runs")
    _check_figures(report, found, micro)
    if file is not None:
        write_results(file, "reads", runs, to_figures(found, units) | {"inside": micro})
    report.show()


def _check_figures(report: Report, found: Measurements, micro: MicroFigures) -> None:
    for case, side, least in MIN_RATIOS:
        times = ratio(found, case, side)
        claim = f"{case.name}, {side}, times the baseline"
        report.check(claim, f"{times:.1f}", holds=times >= least, expected=f"{least}")
    p99 = found[DAILY_ALONE.name, SERVICE].p99_ms
    report.check(f"{DAILY_ALONE.name}, p99 in ms", f"{p99:.1f}", holds=p99 <= MAX_ALONE_MS, expected=f"{MAX_ALONE_MS}")
    times = found[QUARTERLY.name, SERVICE].cpu_ms / micro.query_and_unpack
    report.check(
        f"{QUARTERLY.name}, times Query and unpacking", f"{times:.2f}", holds=times <= MIN_RANGE_RATIO, expected="2.5"
    )
    report.figure("Query and unpacking of 90 days alone, ms of CPU", f"{micro.query_and_unpack:.1f}")
    report.figure("msgspec's encoding of 90 days alone, ms of CPU", f"{micro.encode_quarter:.2f}")
    report.figure("GetItem of a head alone, ms of CPU", f"{micro.get_head:.3f}")
    report.figure("msgspec's encoding of a reading alone, ms of CPU", f"{micro.encode_latest:.4f}")


@contextmanager
def _server(folder: Path) -> Iterator[DynamoServer]:
    """Run a server with the readings of all users in both layouts."""
    stack = start_ministack(folder / "ministack")
    with start_server(stack):
        server = DynamoServer(f"http://{HOST}:{stack.port}", credentials())

        async def prepare() -> None:
            await create_table(server.endpoint, REGION, TABLE, credentials())
            async with server.client() as client:
                await fill_both(client, TABLE, BASELINE_TABLE)

        console.print(f"{sum(person.count for person in PEOPLE):,} readings are written in both layouts ...")
        anyio.run(prepare)
        yield server


@contextmanager
def _sides(folder: Path, server: DynamoServer) -> Iterator[Mapping[str, Process]]:
    aws = {"DYNAMODB_ENDPOINT": server.endpoint, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    ports = {side: free_port() for side in (SERVICE, COLD, BASELINE, FLOOR)}
    table = {"DYNAMODB_TABLE": TABLE, "AWS_REGION": REGION}
    own, cold = (
        service_settings(folder / name, ports[side]) | aws | table | {"REQUESTS_PER_SECOND": "100000"}
        for name, side in (("service", SERVICE), ("cold", COLD))
    )
    theirs = aws | {"DYNAMODB_TABLE": BASELINE_TABLE, "AWS_DEFAULT_REGION": REGION}
    uvicorn = ["tests.long.benchmarks.baseline.app:app", "--port", str(ports[BASELINE]), "--no-access-log"]
    with (
        Process(folder, SERVICE, "bg_ingest.cli", "run", port=ports[SERVICE], **own) as service,
        Process(folder, "cold", "tests.long.benchmarks.nothing_kept", "run", port=ports[COLD], **cold) as cold_service,
        Process(folder, BASELINE, "uvicorn", *uvicorn, port=ports[BASELINE], **theirs) as baseline,
        Process(folder, FLOOR, "tests.long.benchmarks.memory_baseline", str(ports[FLOOR]), port=ports[FLOOR]) as floor,
    ):
        sides = {SERVICE: service, COLD: cold_service, BASELINE: baseline, FLOOR: floor}
        for side in sides.values():
            wait_until(lambda side=side: answers(side, LATEST.paths[0]), 60, f"an answer, see {side.said}")  # type: ignore[misc]
        yield sides


def _compare_answers(sides: Mapping[str, Process]) -> None:
    """Verify that all sides answer the same. The requests also warm the sides up."""
    for case in CASES:
        for path in case.paths:
            bodies = [web.get(side.url + path, timeout=60).json() for side in sides.values()]
            assert all(body == bodies[0] for body in bodies), path


def _measure(sides: Mapping[str, Process], runs: int) -> Measurements:
    found: dict[tuple[str, str], list[LoadResult]] = {}
    for run in range(1, runs + 1):
        for case in CASES:
            for name in case.counts:
                console.print(f"run {run} of {runs}: {case.name}, {name} ...")
                pid = sides[name].pid if name == BASELINE else sides[name].worker
                one = anyio.run(_run_load, sides[name].url, case, case.counts[name], pid)
                found.setdefault((case.name, name), []).append(one)
    return {which: medians(each) for which, each in found.items()}


def _units() -> Units:
    """Return the read units of each case, of the service and of the baseline."""
    return {
        case.name: {
            SERVICE: of_service(case.person, is_range=case not in (LATEST, LATEST_OF_MANY)),
            BASELINE: of_baseline(case.person, is_range=case not in (LATEST, LATEST_OF_MANY)),
        }
        for case in CASES
    }


async def _run_load(url: str, case: Case, count: int, pid: int) -> LoadResult:
    return await run_load(url, case.paths, count=count, at_once=case.at_once, pid=pid)


if __name__ == "__main__":
    main()
