"""Reading, side by side: the service, the straightforward layout, and the same routes answering from memory.

    python -m tests.benchmarks.reads [--runs 3] [--json FILE]

Each is a process of its own that this one asks over HTTP; a DynamoDB-compatible server is beside them on the same
machine. The wall clock's figures are of all these together. A process's own time is what it costs, and what the limits
are of. Exit code 1 beyond the limits.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import anyio
import rich_click as click

from bg_ingest.adapters.dynamodb.tables import create_table
from tests.benchmarks.comparison import (
    AT_ONCE,
    BASELINE,
    CASES,
    FLOOR,
    LATEST,
    QUARTERLY,
    SERVICE,
    Found,
    Units,
    figures,
    ratio,
    shown,
)
from tests.benchmarks.history import PEOPLE, fill
from tests.benchmarks.inside import Inside, measure_inside
from tests.benchmarks.kept import keep
from tests.benchmarks.load import Measured, ask, medians
from tests.benchmarks.read_units import of_baseline, of_service
from tests.chaos.processes import HOST, Process, answers, service_settings, until, workplace
from tests.chaos.real_parts import TABLE
from tests.chaos.report import Report, console
from tests.integration.processes import free_port, ministack, started
from tests.integration.servers import REGION, DynamoServer, credentials
from tests.web import web

LATEST_TIMES, QUARTER_TIMES = 2.5, 20.0
"""At least so many of the baseline's requests, of the same processor time."""

RANGE_TIMES = 2.5
"""At most so many times what Query and unpacking take."""

BASELINE_TABLE = "baseline"


@click.command()
@click.option("--runs", default=3, show_default=True)
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write all figures there.")
def main(runs: int, file: Path | None) -> None:
    """Latest and ranges, side by side with the straightforward layout and with memory."""
    with workplace("reads") as place, _server(place) as server, _sides(place, server) as sides:
        _compare_answers(sides)
        found = _measure(sides, runs)
        inside = anyio.run(measure_inside, server.endpoint, TABLE, runs)
    units = _units()
    console.print(shown(found, units))
    report = Report(f"Reading, medians of {runs} runs, {AT_ONCE} at once")
    _judge(report, found, inside)
    if file is not None:
        keep(file, "reads", runs, figures(found, units) | {"inside": inside})
    report.show()


def _judge(report: Report, found: Found, inside: Inside) -> None:
    for case, least in ((LATEST, LATEST_TIMES), (QUARTERLY, QUARTER_TIMES)):
        times = ratio(found, case)
        report.check(f"{case.name}, times the baseline", f"{times:.1f}", holds=times >= least, wanted=f"{least}")
    times = found[QUARTERLY.name, SERVICE].cpu_ms / inside.query_and_unpack
    report.check(
        f"{QUARTERLY.name}, times Query and unpacking", f"{times:.2f}", holds=times <= RANGE_TIMES, wanted="2.5"
    )
    report.figure("Query and unpacking of 90 days alone, ms of CPU", f"{inside.query_and_unpack:.1f}")
    report.figure("msgspec's encoding of 90 days alone, ms of CPU", f"{inside.encode_quarter:.2f}")
    report.figure("GetItem of a head alone, ms of CPU", f"{inside.get_head:.3f}")
    report.figure("msgspec's encoding of a reading alone, ms of CPU", f"{inside.encode_latest:.4f}")


@contextmanager
def _server(place: Path) -> Iterator[DynamoServer]:
    """Run a server that has everybody's readings in both layouts."""
    stack = ministack(place / "ministack")
    with started(stack):
        server = DynamoServer(f"http://{HOST}:{stack.port}", credentials())

        async def prepare() -> None:
            await create_table(server.endpoint, REGION, TABLE, aws=credentials())
            async with server.client() as client:
                await fill(client, TABLE, BASELINE_TABLE)

        console.print(f"{sum(person.count for person in PEOPLE):,} readings are written in both layouts ...")
        anyio.run(prepare)
        yield server


@contextmanager
def _sides(place: Path, server: DynamoServer) -> Iterator[Mapping[str, Process]]:
    aws = {"DYNAMODB_ENDPOINT": server.endpoint, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    ports = {side: free_port() for side in (SERVICE, BASELINE, FLOOR)}
    table = {"DYNAMODB_TABLE": TABLE, "AWS_REGION": REGION}
    own = service_settings(place, ports[SERVICE]) | aws | table | {"REQUESTS_PER_SECOND": "100000"}
    theirs = aws | {"DYNAMODB_TABLE": BASELINE_TABLE, "AWS_DEFAULT_REGION": REGION}
    uvicorn = ["tests.benchmarks.baseline.app:app", "--port", str(ports[BASELINE]), "--no-access-log"]
    with (
        Process(place, SERVICE, "bg_ingest.cli", "run", port=ports[SERVICE], **own) as service,
        Process(place, BASELINE, "uvicorn", *uvicorn, port=ports[BASELINE], **theirs) as baseline,
        Process(place, FLOOR, "tests.benchmarks.floor", str(ports[FLOOR]), port=ports[FLOOR]) as floor,
    ):
        sides = {SERVICE: service, BASELINE: baseline, FLOOR: floor}
        for side in sides.values():
            until(lambda side=side: answers(side, LATEST.paths[0]), 60, f"an answer, see {side.said}")  # type: ignore[misc]
        yield sides


def _compare_answers(sides: Mapping[str, Process]) -> None:
    """Make sure that all answer the same; it also warms them up."""
    for case in CASES:
        for path in case.paths:
            told = [web.get(side.url + path, timeout=60).json() for side in sides.values()]
            assert told[0] == told[1] == told[2], path


def _measure(sides: Mapping[str, Process], runs: int) -> Found:
    found: dict[tuple[str, str], list[Measured]] = {}
    for run in range(1, runs + 1):
        for case in CASES:
            for name, side in sides.items():
                console.print(f"run {run} of {runs}: {case.name}, {name} ...")
                pid = side.pid if name == BASELINE else side.worker
                one = anyio.run(_ask, side.url, case.paths, case.counts[name], pid)
                found.setdefault((case.name, name), []).append(one)
    return {which: medians(each) for which, each in found.items()}


def _units() -> Units:
    """Return the read units of each case, of the service and of the baseline."""
    return {
        case.name: {
            SERVICE: of_service(case.person, is_range=case is not LATEST),
            BASELINE: of_baseline(case.person, is_range=case is not LATEST),
        }
        for case in CASES
    }


async def _ask(url: str, paths: tuple[str, ...], count: int, pid: int) -> Measured:
    return await ask(url, paths, count=count, at_once=AT_ONCE, pid=pid)


if __name__ == "__main__":
    main()
