"""Start the one-file executable with Python alone; exit code 1 at any deviation.

    python -m tests.long.chaos.binary FILE

The only Python is a virtual environment without any package. Home and directory are empty except for files with the
names of our modules.
"""

import subprocess
import time
import venv
from pathlib import Path

import rich_click as click

from tests.integration.processes import free_port
from tests.long.chaos.processes import HOST, Process, answers, run_folder
from tests.long.chaos.report import Report

DECOYS = ("app.py", "workers.py", "bg_ingest.py")
"""Name of a file in the current directory that must not shadow our module."""


class Executable(Process):
    """A process of a file's own, with nothing of ours in its environment."""

    def __init__(self, folder: Path, file: Path, *arguments: str, port: int, **settings: str) -> None:
        super().__init__(folder, "executable", "", port=port)
        self._command = [str(file.absolute()), *arguments]
        self._environment = settings


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(file: Path) -> None:
    """Check help, wrong settings and a whole run on embedded defaults."""
    report = Report("The executable")
    report.figure("its size", f"{file.stat().st_size / 1_000_000:.1f} MB")
    with run_folder("binary") as folder:
        for name in DECOYS:
            (folder / name).write_text("raise SystemExit('this is not ours')\n")
        venv.create(folder / "python", with_pip=False)
        environment = {"PATH": f"{folder / 'python/bin'}:/usr/bin:/bin", "HOME": str(folder / "home")}
        _help(report, file, folder, environment)
        _wrong_settings(report, file, folder, environment)
        _run(report, file, folder, environment)
        report.show()


def _help(report: Report, file: Path, folder: Path, environment: dict[str, str]) -> None:
    for name in ("first start, with unpacking", "later"):
        began = time.monotonic()
        done = _run_to_end(file, folder, environment, "--help")
        report.figure(f"--help, {name}", f"{time.monotonic() - began:.1f} s")
        holds = done.returncode == 0 and "Serve, poll and publish" in done.stdout
        report.check(f"--help, {name}: exit code", done.returncode, holds=holds, expected=f"help and 0: {done.stderr}")


def _wrong_settings(report: Report, file: Path, folder: Path, environment: dict[str, str]) -> None:
    done = _run_to_end(file, folder, environment | {"ENVIRONMENT": "production"}, "run")
    output = done.stdout + done.stderr
    holds = done.returncode == 2 and "DYNAMODB_TABLE is missing" in output and "Traceback" not in output
    report.check(
        "exit code of production without settings", done.returncode, holds=holds, expected=f"2 and a list: {output}"
    )


def _run(report: Report, file: Path, folder: Path, environment: dict[str, str]) -> None:
    port = free_port()
    settings = environment | {"HOST": HOST, "PORT": str(port)}
    with Executable(folder, file, "run", port=port, **settings) as service:
        began = time.monotonic()
        service.get_ready()
        report.figure("run on embedded defaults: start to ready", f"{time.monotonic() - began:.1f} s")
        served = answers(service, "/schema")
        report.check("it answers", "yes" if served else "no", holds=served, expected="yes")
        code, seconds = service.stop()
        report.check("exit code after SIGTERM", code, holds=code == 0, expected="0")
        report.figure("SIGTERM to its end", f"{seconds:.1f} s")


def _run_to_end(
    file: Path, folder: Path, environment: dict[str, str], *arguments: str
) -> subprocess.CompletedProcess[str]:
    command = [str(file.absolute()), *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


if __name__ == "__main__":
    main()
