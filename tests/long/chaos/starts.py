"""Time from starting ``bg-ingest run`` on embedded defaults until it is ready; exit code 1 beyond 2 s.

    python -m tests.long.chaos.starts [--starts 10]

To be run on an idle machine, because the wall clock includes other work. The processor's seconds are printed too.
"""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import rich_click as click

from tests.long.chaos.processes import ROOT, run_folder, service
from tests.long.chaos.report import Report, console

MAX_START_SECONDS = 2.0
"""Most seconds to ready, in the median."""

UNWANTED_IMPORTS = ("aioboto3", "aiobotocore", "boto3", "botocore", "aiormq", "bg_ingest.adapters.dynamodb")
"""Packages that are imported only if they are selected."""

_IMPORTED = "import sys, bg_ingest.cli, bg_ingest.server, app; print(*sys.modules)"


@click.command()
@click.option("--starts", default=10, show_default=True)
def main(starts: int) -> None:
    """Measure the time from start to ready on embedded defaults."""
    report = Report(f"From start to ready, {starts} starts")
    with run_folder("starts") as folder:
        taken, used = [], []
        for _ in range(starts):
            before = _processor_seconds()
            began = time.monotonic()
            with service(folder) as served:
                served.get_ready()
                taken.append(time.monotonic() - began)
                code, _ = served.stop()
            used.append(_processor_seconds() - before)
            console.print(
                f"ready after {taken[-1]:.2f} s; {used[-1]:.2f} s of processor with the stop; exit code {code}"
            )
        imported = _imported_modules(folder)
        report.check(
            "median",
            f"{median(taken):.2f} s",
            holds=median(taken) <= MAX_START_SECONDS,
            expected=f"at most {MAX_START_SECONDS:g} s",
        )
        report.figure("fastest, slowest", f"{min(taken):.2f} s, {max(taken):.2f} s")
        report.figure("processor, median, start and stop", f"{median(used):.2f} s")
        report.figure("load of the last minute on so many cores", f"{os.getloadavg()[0]:.1f} on {os.cpu_count()}")
        found = [each for each in UNWANTED_IMPORTS if each in imported]
        report.check("imported without need", ", ".join(found) or "nothing", holds=not found, expected="nothing")
        report.show()


def _imported_modules(folder: Path) -> set[str]:
    ran = subprocess.run(
        [sys.executable, "-c", _IMPORTED],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "DATA_DIR": str(folder / "data")},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return set(ran.stdout.split())


def _processor_seconds() -> float:
    """Return the processor seconds of all ended child processes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
